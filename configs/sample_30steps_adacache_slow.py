# AdaCache "slow" at 30 steps: closer to the baseline, less speedup.
_base_ = ["sample_30steps.py"]

cache = dict(calibrated="open_sora_1_2_30.json#adacache-slow", granularity="stack", decision="sample")
