# The scenes model: coloured shapes that move in nine ways over backgrounds with patterns. What is not named here is as
# for the bundled model.
_base_ = ["shapes.py"]

image_size = (96, 96)

prompt_path = "assets/scenes/prompts.txt"
save_dir = "samples/scenes/{config}"

model = dict(from_pretrained="opensora_adacache/scenes/weights/transformer")
vae = dict(from_pretrained="opensora_adacache/scenes/weights/vae")
text_encoder = dict(from_pretrained="opensora_adacache/scenes/weights/text_encoder", model_max_length=40)
scheduler = dict(cfg_scale=2.0)
