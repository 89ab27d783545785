# LTX-2 with the settings of diffusers' example: 121 frames of 512x768, 30 steps. Its sound is not written.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/ltx_2/{prompts}/{config}"
save_fps = 24
pipeline = dict(
    from_pretrained="Lightricks/LTX-2",
    torch_dtype="bf16",
    offload="model",
    call=dict(
        num_frames=121,
        height=512,
        width=768,
        frame_rate=24.0,
        num_inference_steps=30,
        guidance_scale=3.0,
        negative_prompt="worst quality, inconsistent motion, blurry, jittery, distorted",
    ),
)
