# AdaCache "fast" at 30 steps.
_base_ = ["sample_30steps.py"]

cache = dict(calibrated="open_sora_1_2_30.json#adacache-fast", granularity="stack", decision="sample")
