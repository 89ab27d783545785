# AdaCache "slow" at 30 steps: closer to the baseline, less speedup.
_base_ = ["sample_30steps.py"]

cache = dict(
    type="AdaCache",
    codebook={0.08: 3, 0.16: 2, 0.24: 1, 0.32: 1, 0.40: 1, 1.00: 1},
    cache_res="t-attn",
    cache_loc=(13,),
    granularity="stack",
    decision="sample",
)
