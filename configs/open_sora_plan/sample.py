# Open-Sora-Plan 1.1 as in the AdaCache paper's Table 1: 65 frames of 512x512, 150 steps. The other settings are those
# of its own scripts/text_condition/sample_video_65.sh. It needs pytorch-lightning, peft and a folder with its source:
# git clone --branch v1.1.0 https://github.com/PKU-YuanGroup/Open-Sora-Plan
_base_ = ["../_base_/pipeline.py"]

save_dir = "samples/open_sora_plan/{prompts}/{config}"
save_fps = 24
pipeline = dict(
    type="open_sora_plan",
    source="Open-Sora-Plan",
    from_pretrained="LanguageBind/Open-Sora-Plan-v1.1.0",
    transformer="65x512x512",
    text_encoder="DeepFloyd/t5-v1_1-xxl",
    torch_dtype="fp16",
    vae_tiling=True,
    call=dict(num_frames=65, height=512, width=512, num_inference_steps=150, guidance_scale=7.5),
)
