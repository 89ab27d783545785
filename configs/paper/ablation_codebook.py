# Ablation of the codebook: 720p, two seconds, 100 steps.
# The paper made 32 gallery prompts from an image and text (according to its authors). Those prompts are not ours to
# ship: the run config's own, assets/texts/gallery.txt, stand in. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_fast = {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3}
_medium = {0.03: 8, 0.05: 6, 0.07: 4, 0.09: 2, 0.11: 1, 1.00: 1}
# Not printed for 100 steps: the rates of the slow codebook of 30 steps.
_slow = {0.03: 3, 0.05: 2, 0.07: 1, 0.09: 1, 0.11: 1, 1.00: 1}
_adacache = dict(type="AdaCache", cache_res="t-attn", cache_loc=(13,), granularity="stack", decision="sample")

# computed_steps: 100 x the printed latency over that of the baseline (419.6 s), text and decoding included.
settings = dict(
    fast=dict(title="fast", paper="codebook fast", cache=dict(_adacache, codebook=_fast), computed_steps=21.3),
    medium=dict(title="medium", paper="codebook medium", cache=dict(_adacache, codebook=_medium), computed_steps=34.3),
    slow=dict(title="slow", paper="codebook slow", cache=dict(_adacache, codebook=_slow), computed_steps=65.4),
)
