# Latte with the defaults of diffusers' LattePipeline, which are those of the AdaCache paper's Table 1: 16 frames of
# 512x512, 50 steps.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/latte/{prompts}/{config}"
save_fps = 8
pipeline = dict(
    from_pretrained="maxin-cn/Latte-1",
    torch_dtype="fp16",
    call=dict(video_length=16, height=512, width=512, num_inference_steps=50, guidance_scale=7.5),
)
