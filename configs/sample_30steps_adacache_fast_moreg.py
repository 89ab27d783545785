# AdaCache "fast" with motion regularization at 30 steps.
_base_ = ["sample_30steps_adacache_fast.py"]

cache = dict(moreg=dict(calibrated="open_sora_1_2_30.json#moreg"))
