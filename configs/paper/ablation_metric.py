# Ablation of the distance metric: 720p, two seconds, 100 steps.
# The paper made 32 gallery prompts from an image and text (according to its authors). Those prompts are not ours to
# ship: the run config's own, assets/texts/gallery.txt, stand in. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_fast = {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3}

# The thresholds belong to "l1"; the paper prints none for the other metrics. A start, to be calibrated before
# metrics are compared at one speed: "l2" of residuals that change evenly is the same number, 1 - cos is about half
# its square.
_cosine = {0.00045: 12, 0.00125: 10, 0.00245: 8, 0.00405: 6, 0.00605: 4, 0.5: 3}
_adacache = dict(type="AdaCache", cache_res="t-attn", cache_loc=(13,), granularity="stack", decision="sample")

# computed_steps: 100 x the printed latency over that of the baseline (419.6 s), text and decoding included.
settings = dict(
    l1=dict(title="L1", paper="metric L1", cache=dict(_adacache, metric="l1", codebook=_fast), computed_steps=21.3),
    l2=dict(title="L2", paper="metric L2", cache=dict(_adacache, metric="l2", codebook=_fast), computed_steps=22.1),
    cosine=dict(
        title="cosine",
        paper="metric cosine",
        cache=dict(_adacache, metric="cosine", codebook=_cosine),
        computed_steps=20.7,
    ),
)
