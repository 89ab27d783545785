# Every policy at three speedups, 30 steps: python scripts/compare.py configs/shapes/frontier/compare_30.py
_base_ = ["calibrated_30.py"]

run = "sample_30.py"
title = "30 steps: quality at three speedups"
# Held-out prompts; calibration has prompts of its own.
prompts = dict(heldout=24, seed=630)
metrics = ("psnr", "ssim")

settings = {
    # The codebooks of calibrated_30.py, with forecasting.
    "adacache-forecast-1.5x": dict(
        title="AdaCache + forecast",
        cache=dict(_base_.settings["adacache-1.5x"]["cache"], forecast=1, decision="sample"),
    ),
    "adacache-forecast-2.2x": dict(
        title="AdaCache + forecast",
        cache=dict(_base_.settings["adacache-2.2x"]["cache"], forecast=1, decision="sample"),
    ),
    "adacache-forecast-3x": dict(
        title="AdaCache + forecast",
        cache=dict(_base_.settings["adacache-3x"]["cache"], forecast=1, decision="sample"),
    ),
    # A line (order 1), which calibration prefers with so few steps: --speedup 3.75 in the command of forecast.py.
    "forecastcache-8": dict(
        title="ForecastCache, 8 steps",
        cache=dict(
            type="ForecastCache",
            computed_steps=8,
            order=1,
            sensitivity=(
                4.39,
                4.39,
                4.39,
                2.31,
                2.49,
                1.08,
                1.31,
                1.19,
                0.778,
                0.726,
                0.576,
                0.439,
                0.441,
                0.346,
                0.332,
                0.314,
                0.308,
                0.344,
                0.22,
                0.292,
                0.307,
                0.332,
                0.213,
                0.336,
                0.281,
                0.336,
                0.277,
                0.332,
                0.292,
                0.605,
            ),
            growth=(
                86.5,
                86.5,
                86.5,
                104,
                66.1,
                43,
                24.6,
                19.3,
                14.1,
                10.1,
                7.84,
                6.66,
                6.42,
                5.19,
                5.93,
                4.83,
                4,
                5.28,
                5.14,
                4.51,
                3.91,
                7.89,
                4.85,
                5.67,
                5.23,
                10.9,
                9.26,
                11.4,
                25.6,
                64,
            ),
            decision="sample",
        ),
    ),
    "adacache-fast": dict(
        title="AdaCache (fast)",
        cache=dict(
            type="AdaCache",
            codebook={0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1},
            decision="sample",
        ),
    ),
}
