# Wan 2.1 with 1.3B parameters and the settings of its model card: 81 frames of 480x832, 50 steps. The shift is that for
# 480p, and the VAE stays in float32.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/wan/{prompts}/{config}"
save_fps = 16
pipeline = dict(
    from_pretrained="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    torch_dtype=dict(default="bf16", vae="fp32"),
    scheduler=dict(flow_shift=3.0),
    call=dict(num_frames=81, height=480, width=832, num_inference_steps=50, guidance_scale=5.0),
)
