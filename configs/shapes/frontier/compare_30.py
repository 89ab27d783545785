# Every policy at three speedups, 30 steps: python scripts/compare.py configs/shapes/frontier/compare_30.py
_base_ = ["calibrated_30.py"]

run = "sample_30.py"
title = "30 steps: quality at three speedups"
# Held-out prompts; calibration has prompts of its own.
prompts = dict(heldout=24, seed=630)
metrics = ("psnr", "ssim")

settings = {
    # The codebooks of calibrated_30.py, with a forecast and a corrector.
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
    # The codebook of configs/shapes/sample_adacache.py, and at most 0.7 of its steps.
    "adacache-fast": dict(
        title="AdaCache (fast)",
        cache=dict(
            type="AdaCache",
            codebook={0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1},
            decision="sample",
        ),
    ),
    "forecastcache-8": dict(title="ForecastCache, 8 steps", cache=dict(_base_._forecast, computed_steps=8)),
    "forecastcache-tolerance": dict(title="ForecastCache to a tolerance", cache=dict(_base_._tolerant)),
}
