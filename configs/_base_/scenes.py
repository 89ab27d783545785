# The bundled model: coloured shapes that move in nine ways over backgrounds with patterns, for a laptop CPU.

image_size = (96, 96)
num_frames = 17
fps = 8
save_fps = 8

seed = 1024
batch_size = 1
dtype = "fp32"

prompt_path = "assets/scenes/prompts.txt"
save_dir = "samples/scenes/{config}"

# Paths are looked up in the current folder, then beside the installed package.
model = dict(type="STDiT3", from_pretrained="opensora_adacache/scenes/weights/transformer")
vae = dict(from_pretrained="opensora_adacache/scenes/weights/vae", micro_batch_size=17, micro_frame_size=17)
text_encoder = dict(from_pretrained="opensora_adacache/scenes/weights/text_encoder", model_max_length=40)
scheduler = dict(type="rflow", num_sampling_steps=30, cfg_scale=2.0, use_timestep_transform=False)
