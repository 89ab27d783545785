# Every policy at three speedups, 50 steps: python scripts/compare.py configs/shapes/frontier/compare_50.py
_base_ = ["calibrated_50.py"]

run = "sample_50.py"
title = "50 steps: quality at three speedups"
# Held-out prompts; calibration has prompts of its own.
prompts = dict(heldout=16, seed=650)
metrics = ("psnr", "ssim")

settings = {
    # The codebooks of calibrated_50.py, with a forecast and a corrector.
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
    # AdaCache's fast codebook, calibrated as in calibrated_50.py with --speedup 2.5, and 0.7 of its steps.
    "adacache-fast": dict(
        title="AdaCache (fast)",
        cache=dict(
            type="AdaCache",
            codebook={0.01901: 6, 0.03802: 5, 0.05703: 4, 0.07603: 3, 0.09504: 2, 0.2376: 1},
            decision="sample",
        ),
    ),
    "forecastcache-13": dict(title="ForecastCache, 13 steps", cache=dict(_base_._forecast, computed_steps=13)),
}
