# Every policy at three speedups, 30 steps: python scripts/compare.py configs/shapes/frontier/compare_30.py
_base_ = ["calibrated_30.py"]

run = "sample_30.py"
title = "30 steps: quality at three speedups"
# Held-out prompts of a seed that nothing else draws from.
prompts = dict(heldout=12, seed=430)
metrics = ("psnr", "ssim")

_sensitivity = (
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
)
_growth = (
    2.88,
    2.88,
    2.88,
    3.48,
    2.87,
    1.43,
    1.25,
    0.896,
    0.862,
    0.765,
    0.576,
    0.465,
    0.451,
    0.399,
    0.538,
    0.434,
    0.377,
    0.372,
    0.392,
    0.413,
    0.398,
    0.492,
    0.48,
    0.469,
    0.639,
    0.679,
    1.12,
    0.984,
    1.65,
    2.49,
)

settings = {
    # The codebooks of calibrated_30.py, with forecasting.
    "adacache-forecast-1.5x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.01473: 6, 0.02945: 5, 0.04418: 4, 0.0589: 3, 0.07363: 2, 0.1841: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "adacache-forecast-2.2x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.02753: 6, 0.05506: 5, 0.08259: 4, 0.1101: 3, 0.1377: 2, 0.3441: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "adacache-forecast-3x": dict(
        title="AdaCache + forecast",
        cache=dict(
            type="AdaCache",
            codebook={0.06211: 6, 0.1242: 5, 0.1863: 4, 0.2484: 3, 0.3106: 2, 0.7764: 1},
            forecast=1,
            decision="sample",
        ),
    ),
    "forecastcache-8": dict(
        title="ForecastCache, 8 steps",
        cache=dict(type="ForecastCache", computed_steps=8, sensitivity=_sensitivity, growth=_growth, decision="sample"),
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
