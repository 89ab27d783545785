# Mochi 1 with the guidance and steps of diffusers' MochiPipeline: 85 frames of 480x848, 64 steps.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/mochi/{prompts}/{config}"
save_fps = 30
pipeline = dict(
    from_pretrained="genmo/mochi-1-preview",
    torch_dtype="bf16",
    vae_tiling=True,
    call=dict(num_frames=85, height=480, width=848, num_inference_steps=64, guidance_scale=4.5),
)
