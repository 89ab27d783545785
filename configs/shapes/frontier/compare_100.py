# Every policy at three speedups, 100 steps: python scripts/compare.py configs/shapes/frontier/compare_100.py
_base_ = ["calibrated_100.py"]

run = "sample_100.py"
title = "100 steps: quality at three speedups"
# Held-out prompts of a seed that nothing else draws from.
prompts = dict(heldout=12, seed=500)
metrics = ("psnr", "ssim")

settings = {
    # The codebooks of calibrated_100.py, with forecasting.
    "adacache-forecast-1.5x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.006959: 6, 0.01392: 5, 0.02088: 4, 0.02784: 3, 0.0348: 2, 0.08699: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "adacache-forecast-2.2x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.009389: 6, 0.01878: 5, 0.02817: 4, 0.03755: 3, 0.04694: 2, 0.1174: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "adacache-forecast-3x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.01528: 6, 0.03055: 5, 0.04583: 4, 0.06111: 3, 0.07639: 2, 0.191: 1},
            forecast=1,
            decision="sample",
        ),
    ),
}
