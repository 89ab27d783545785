# AdaCache "fast" at 30 steps.
_base_ = ["sample_30steps.py"]

cache = dict(
    type="AdaCache",
    codebook={0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1},
    cache_res="t-attn",
    cache_loc=(13,),
    granularity="stack",
    decision="sample",
)
