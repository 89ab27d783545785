# Ablation of the codebook: 720p, two seconds, 100 steps.
# The paper used 32 gallery prompts, conditioned on image and text according to its authors. We cannot ship them,
# so the prompts of the run config, assets/texts/gallery.txt, replace them. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_fast = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")
_medium = dict(_fast, calibrated="open_sora_1_2_100.json#adacache-medium")
# The paper does not print the slow codebook for 100 steps, so these are the rates of the one for 30 steps.
_slow = dict(_fast, calibrated="open_sora_1_2_100.json#adacache-slow")

# computed_steps: 100 x the printed latency divided by the baseline's (419.6 s), including text encoding and decoding.
settings = dict(
    fast=dict(title="fast", paper="codebook fast", cache=_fast, computed_steps=21.3),
    medium=dict(title="medium", paper="codebook medium", cache=_medium, computed_steps=34.3),
    slow=dict(title="slow", paper="codebook slow", cache=_slow, computed_steps=65.4),
)
