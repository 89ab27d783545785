# AdaCache at the published setting.
# The codebook maps distances to rates: below 0.03, every 12th step is computed, …, and otherwise every third step.
_base_ = ["sample.py"]

cache = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")
