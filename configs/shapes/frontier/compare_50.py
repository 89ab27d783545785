# Every policy at three speedups, 50 steps: python scripts/compare.py configs/shapes/frontier/compare_50.py
_base_ = ["calibrated_50.py"]

run = "sample_50.py"
title = "50 steps: quality at three speedups"
# Held-out prompts of a seed that nothing else draws from.
prompts = dict(heldout=16, seed=450)
metrics = ("psnr", "ssim")

settings = {
    # The codebooks of calibrated_50.py, with forecasting.
    "adacache-forecast-1.5x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.009834: 6, 0.01967: 5, 0.0295: 4, 0.03934: 3, 0.04917: 2, 0.1229: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "adacache-forecast-2.2x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.01575: 6, 0.0315: 5, 0.04724: 4, 0.06299: 3, 0.07874: 2, 0.1969: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "adacache-forecast-3x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.02685: 6, 0.0537: 5, 0.08055: 4, 0.1074: 3, 0.1342: 2, 0.3356: 1},
            forecast=1,
            decision="sample",
        ),
    ),
}
