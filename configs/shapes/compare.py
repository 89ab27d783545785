# Every caching policy on the embedded model: make bench.
# calibrated.py holds the settings that need constants of this model, for 2.2 and 1.5 times fewer computed steps.
_base_ = ["calibrated.py"]

run = "sample.py"
title = "Caching policies on the embedded model"
# Held-out prompts of a seed that nothing else draws from.
prompts = dict(heldout=64, seed=41)
paper = "open-sora-1.2 (480p, 2s, 30 steps)"

# The codebook of sample_adacache.py and the constants of sample_adacache_moreg.py.
_codebook = {0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1}
_moreg = dict(strides=(1,), steps=(4, 26), center=0.315, power=2, divisor=1, gradient_weight=1)

settings = {
    "adacache-2.5x": dict(
        title="AdaCache (fast)",
        paper="AdaCache-fast",
        cache=dict(type="AdaCache", codebook=_codebook, decision="sample"),
    ),
    "adacache-2.5x-moreg": dict(
        title="AdaCache (fast) + MoReg",
        paper="AdaCache-fast+MoReg",
        cache=dict(type="AdaCache", codebook=_codebook, moreg=_moreg, decision="sample"),
    ),
    "adacache-1.5x": dict(title="AdaCache (slow)", paper="AdaCache-slow"),
    "pab-246": dict(title="PAB246", paper="PAB-slow", cache=dict(type="PAB", spatial=2, temporal=4, cross=6)),
    "pab-579": dict(title="PAB579", paper="PAB-fast", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    "tgate": dict(title="T-GATE", paper="T-GATE", cache=dict(type="TGATE", gate_step=12, interval=2)),
    # The published range is a quarter of the layers or less: two of six here.
    "delta-dit": dict(
        title="Δ-DiT", paper="Delta-DiT", cache=dict(type="DeltaDiT", interval=2, gate_step=6, early=(0, 1))
    ),
    "static-2": dict(title="static, every 2nd step", cache=dict(type="Static", interval=2)),
    "taylorseer-o1-n2": dict(title="TaylorSeer, order 1, N 2", cache=dict(type="TaylorSeer", interval=2, order=1)),
    # From scripts/calibrate.py --speedup 2.2 on a config with cache=dict(type="Planned", steps=(1,)) and the 24
    # calibration prompts.
    "oracle-static-14": dict(
        title="best static schedule",
        oracle="static",
        cache=dict(type="Planned", steps=(1, 2, 3, 4, 6, 9, 12, 15, 18, 21, 24, 27, 29, 30)),
    ),
    "oracle-video-14": dict(title="best schedule per video", oracle="video", computed_steps=14),
    "oracle-budget-14": dict(title="best schedules, split budget", oracle="budget", computed_steps=14),
}
