# LTX-Video with the settings of diffusers' example: 161 frames of 480x704, 50 steps.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/ltx_video/{prompts}/{config}"
save_fps = 24
pipeline = dict(
    from_pretrained="Lightricks/LTX-Video",
    torch_dtype="bf16",
    call=dict(
        num_frames=161,
        height=480,
        width=704,
        frame_rate=24,
        num_inference_steps=50,
        guidance_scale=3.0,
        negative_prompt="worst quality, inconsistent motion, blurry, jittery, distorted",
    ),
)
