# Every policy at three speedups, 100 steps: python scripts/compare.py configs/shapes/frontier/compare_100.py
_base_ = ["calibrated_100.py"]

run = "sample_100.py"
title = "100 steps: quality at three speedups"
# Held-out prompts; calibration has prompts of its own.
prompts = dict(heldout=16, seed=700)
metrics = ("psnr", "ssim")

settings = {
    # The codebooks of calibrated_100.py, with a forecast and a corrector.
    "adacache-forecast-1.5x": dict(
        title="AdaCache, forecast and corrector",
        cache=dict(_base_.settings["adacache-1.5x"]["cache"], forecast=1, corrector=0.5, decision="sample"),
    ),
    "adacache-forecast-2.2x": dict(
        title="AdaCache, forecast and corrector",
        cache=dict(_base_.settings["adacache-2.2x"]["cache"], forecast=1, corrector=0.5, decision="sample"),
    ),
    "adacache-forecast-3x": dict(
        title="AdaCache, forecast and corrector",
        cache=dict(_base_.settings["adacache-3x"]["cache"], forecast=1, corrector=0.5, decision="sample"),
    ),
    # AdaCache's fast codebook, calibrated as in calibrated_100.py with --speedup 2.5, and 0.7 of its steps.
    "adacache-fast": dict(
        title="AdaCache (fast)",
        cache=dict(
            type="AdaCache",
            codebook={0.01081: 6, 0.02161: 5, 0.03241: 4, 0.04322: 3, 0.05403: 2, 0.1351: 1},
            decision="sample",
        ),
    ),
    "forecastcache-28": dict(title="ForecastCache, 28 steps", cache=dict(_base_._forecast, computed_steps=28)),
}
