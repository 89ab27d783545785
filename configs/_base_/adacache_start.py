# A starting point for models without published settings: the codebook that was published for Open-Sora 1.2 at 30 steps,
# at the middle layer. A run warns about it. To find settings for your model instead, run
# python scripts/calibrate.py configs/MODEL/sample.py --policy adacache --speedup 2
# and write cache = dict(policy="adacache", speedup=2, decision="sample"), which looks up what the command has found.
cache = dict(
    calibrated="open_sora_1_2_30.json#adacache-fast",
    cache_res=None,
    cache_loc=None,
    decision="sample",
)
