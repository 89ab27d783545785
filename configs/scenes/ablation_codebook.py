# Ablation of the codebook on the bundled model: the thresholds of sample_adacache.py with the paper's rates.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_fast = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")
_medium = dict(_fast, calibrated="scenes_30.json#adacache-2.5x-medium")
_slow = dict(_fast, calibrated="scenes_30.json#adacache-2.5x-slow")

settings = dict(
    fast=dict(title="codebook fast", paper="codebook fast", cache=_fast),
    medium=dict(title="codebook medium", paper="codebook medium", cache=_medium),
    slow=dict(title="codebook slow", paper="codebook slow", cache=_slow),
)
