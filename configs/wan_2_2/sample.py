# Wan 2.2 A14B with the settings of its model card: 81 frames of 720x1280, 40 steps. Its two transformers share the
# steps, and each has a cache of its own.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/wan_2_2/{prompts}/{config}"
save_fps = 16
pipeline = dict(
    from_pretrained="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    torch_dtype=dict(default="bf16", vae="fp32"),
    offload="model",
    call=dict(
        num_frames=81,
        height=720,
        width=1280,
        num_inference_steps=40,
        guidance_scale=4.0,
        guidance_scale_2=3.0,
    ),
)
