# HunyuanVideo 1.5 with the defaults of diffusers' HunyuanVideo15Pipeline: 121 frames at 480p, 50 steps. The pipeline
# chooses height and width, and its guider holds the guidance scale.
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/hunyuan_video_1_5/{prompts}/{config}"
save_fps = 24
pipeline = dict(
    from_pretrained="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
    torch_dtype="bf16",
    vae_tiling=True,
    call=dict(num_frames=121, num_inference_steps=50),
)
