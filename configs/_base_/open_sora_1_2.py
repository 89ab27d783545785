# The published checkpoints of Open-Sora 1.2 at the published setting: 720p, 9:16, two seconds, 100 steps.
# A config with this file as its _base_ can change everything here, and so can the command line.

# Size and length. resolution and aspect_ratio (height:width) select a size that the model was trained with.
resolution = "720p"
aspect_ratio = "9:16"
num_frames = "2s"
fps = 24
save_fps = 24

# Random streams: video i has its own stream, seeded with seed + i.
seed = 1024
batch_size = 1
dtype = "bf16"

# Scores to append to prompts. The mask strategy "0" keeps the first frame, which is the prompt's reference image.
aes = 7.0
flow = 5.0
mask_strategy = "0"
condition_frame_length = 5
align = 5

# {prompts} is replaced by the name of the prompt file, and {config} by that of the config.
prompt_path = "assets/texts/gallery.txt"
reference_path = "samples/images/{prompts}"
save_dir = "samples/videos/{prompts}/{config}"

# Changes for run_sample_image.sh, which writes its images to reference_path.
image = dict(resolution="1080p", num_frames=1, aes=6.5, flow=None)

model = dict(
    type="STDiT3-XL/2",
    from_pretrained="hpcai-tech/OpenSora-STDiT-v3",
    qk_norm=True,
    enable_flash_attn=True,
)
vae = dict(from_pretrained="hpcai-tech/OpenSora-VAE-v1.2", micro_batch_size=4, micro_frame_size=17)
text_encoder = dict(
    from_pretrained="DeepFloyd/t5-v1_1-xxl",
    model_max_length=300,
    dtype="fp32",
    # Encode all prompts first and free the 19 GB of T5-XXL before the transformer is loaded.
    offload=True,
)
scheduler = dict(type="rflow", num_sampling_steps=100, cfg_scale=7.0, use_timestep_transform=True)
