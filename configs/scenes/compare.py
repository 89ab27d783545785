# Every caching policy on the bundled model: make bench.
run = "sample.py"
title = "Caching policies on the bundled model"
# Held-out prompts with a seed that nothing else uses.
prompts = dict(heldout=64, seed=41)
paper = "open-sora-1.2 (480p, 2s, 30 steps)"

_calibrated = ("teacache", "fbcache", "magcache", "easycache", "seacache", "dpcache", "lemica")
_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")
_moreg = dict(calibrated="scenes_30.json#moreg")

settings = {
    "adacache-1.5x": dict(
        title="AdaCache (slow)", paper="AdaCache-slow", cache=dict(calibrated="scenes_30.json#adacache-1.5x")
    ),
    "adacache-2.2x": dict(cache=dict(calibrated="scenes_30.json#adacache-2.2x")),
    "easycache-1.5x": dict(cache=dict(calibrated="scenes_30.json#easycache-1.5x")),
    **{f"{name}-2.2x": dict(cache=dict(calibrated=f"scenes_30.json#{name}-2.2x")) for name in _calibrated},
    "adacache-2.5x": dict(
        title="AdaCache (fast)",
        paper="AdaCache-fast",
        cache=_adacache,
    ),
    "adacache-2.5x-moreg": dict(
        title="AdaCache (fast) + MoReg",
        paper="AdaCache-fast+MoReg",
        cache=dict(_adacache, moreg=_moreg),
    ),
    "pab-246": dict(title="PAB246", paper="PAB-slow", cache=dict(type="PAB", spatial=2, temporal=4, cross=6)),
    "pab-579": dict(title="PAB579", paper="PAB-fast", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    # FasterCache is both; the second alone is CFG-Cache.
    "fastercache": dict(title="FasterCache", cache=dict(type="FasterCache", guidance_reuse=dict())),
    "cfg-cache": dict(title="CFG-Cache", cache=dict(type="Static", interval=1, guidance_reuse=dict())),
    "cfg-cache-even": dict(
        title="CFG-Cache, factors of 1",
        cache=dict(type="Static", interval=1, guidance_reuse=dict(low_factor=1.0, high_factor=1.0)),
    ),
    "tgate": dict(title="T-GATE", paper="T-GATE", cache=dict(type="TGATE", gate_step=12, interval=2)),
    # The published range is at most a quarter of the layers; here it is two of six.
    "delta-dit": dict(
        title="Δ-DiT", paper="Delta-DiT", cache=dict(type="DeltaDiT", interval=2, gate_step=6, early=(0, 1))
    ),
    "static-2": dict(title="static, every 2nd step", cache=dict(type="Static", interval=2)),
    "taylorseer-o1-n2": dict(title="TaylorSeer, order 1, N 2", cache=dict(type="TaylorSeer", interval=2, order=1)),
    "oracle-static-14": dict(
        title="best static schedule",
        oracle="static",
        cache=dict(calibrated="scenes_30.json#planned-2.2x"),
    ),
    "oracle-video-14": dict(title="best schedule per video", oracle="video", computed_steps=14),
    "oracle-budget-14": dict(title="best schedules, split budget", oracle="budget", computed_steps=14),
}
