# Every caching policy on the embedded model: python scripts/compare.py configs/shapes/compare.py
# calibrated.py holds what needs constants of this model, for 1.5, 2.2 and 3 times fewer computed steps.
_base_ = ["calibrated.py"]

run = "sample.py"
# Held-out prompts of a seed that nothing else draws from.
prompts = dict(heldout=64, seed=41)
paper = "open-sora-1.2 (480p, 2s, 30 steps)"

settings = {
    "adacache-config": dict(
        title="AdaCache (sample_adacache.py)",
        cache=dict(type="AdaCache", codebook={0.04171: 6, 0.08344: 5, 0.1252: 4, 0.1668: 3, 0.2086: 2, 0.5215: 1}),
        paper="AdaCache-fast",
    ),
    "pab-246": dict(title="PAB246", cache=dict(type="PAB", spatial=2, temporal=4, cross=6), paper="PAB-slow"),
    "static-2": dict(title="static, every 2nd", cache=dict(type="Static", interval=2)),
    "static-3": dict(title="static, every 3rd", cache=dict(type="Static", interval=3)),
    "taylorseer-o1-n2": dict(title="TaylorSeer, order 1, N 2", cache=dict(type="TaylorSeer", interval=2, order=1)),
    "taylorseer-o1-n3": dict(title="TaylorSeer, order 1, N 3", cache=dict(type="TaylorSeer", interval=3, order=1)),
    "taylorseer-o2-n3": dict(title="TaylorSeer, order 2, N 3", cache=dict(type="TaylorSeer", interval=3, order=2)),
    "oracle-video-13.6": dict(title="best schedule per video", oracle="video", computed_steps=13.6),
    "oracle-budget-13.6": dict(title="best schedule, split budget", oracle="budget", computed_steps=13.6),
}
