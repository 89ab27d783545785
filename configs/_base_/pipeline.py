# What all runs of diffusers pipelines share. A config with this file as its _base_ adds the section `pipeline`.
seed = 1024
batch_size = 1
prompt_path = "assets/texts/gallery.txt"
