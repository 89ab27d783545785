# AdaCache at the published setting.
_base_ = ["sample.py"]

cache = dict(
    type="AdaCache",
    # distance below → rate: below 0.03 every 12th step is computed, …, otherwise every third
    codebook={0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3},
    cache_res="t-attn",
    cache_loc=(13,),
    granularity="stack",
    decision="sample",
)
