# Ablation of the codebook: 720p, two seconds, 100 steps.
# The paper made 32 gallery prompts from an image and text (according to its authors). Those prompts are not ours to
# ship: the run config's own, assets/texts/gallery.txt, stand in. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_fast = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")
_medium = dict(_fast, calibrated="open_sora_1_2_100.json#adacache-medium")
# Not printed for 100 steps: the rates of the slow codebook of 30 steps.
_slow = dict(_fast, calibrated="open_sora_1_2_100.json#adacache-slow")

# computed_steps: 100 x the printed latency over that of the baseline (419.6 s), text and decoding included.
settings = dict(
    fast=dict(title="fast", paper="codebook fast", cache=_fast, computed_steps=21.3),
    medium=dict(title="medium", paper="codebook medium", cache=_medium, computed_steps=34.3),
    slow=dict(title="slow", paper="codebook slow", cache=_slow, computed_steps=65.4),
)
