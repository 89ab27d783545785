# A starting point for models without published settings: the codebook that was published for Open-Sora 1.2 at 30 steps,
# at the middle layer. A run warns about it. To calibrate your model, see docs/guide/calibration.md.
cache = dict(
    calibrated="open_sora_1_2_30.json#adacache-fast",
    cache_res=None,
    cache_loc=None,
    decision="sample",
)
