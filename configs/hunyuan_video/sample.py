# HunyuanVideo with the defaults of diffusers' HunyuanVideoPipeline: 129 frames of 720x1280, 50 steps. Guidance is an
# input of the transformer, so that each step is one call for the prompt alone.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/hunyuan_video/{prompts}/{config}"
save_fps = 24
pipeline = dict(
    from_pretrained="hunyuanvideo-community/HunyuanVideo",
    torch_dtype=dict(default="fp16", transformer="bf16"),
    vae_tiling=True,
    call=dict(num_frames=129, height=720, width=1280, num_inference_steps=50, guidance_scale=6.0),
)
