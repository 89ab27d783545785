# CogVideoX 5B with the settings of its model card: 49 frames of 480x720, 50 steps.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/cogvideox/{prompts}/{config}"
save_fps = 8
pipeline = dict(
    from_pretrained="zai-org/CogVideoX-5b",
    torch_dtype="bf16",
    vae_tiling=True,
    call=dict(num_frames=49, height=480, width=720, num_inference_steps=50, guidance_scale=6.0),
)
