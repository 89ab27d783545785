# Every policy at three speedups, 30 steps: python scripts/compare.py configs/shapes/frontier/compare_30.py
_base_ = ["compare.py"]

run = "sample_30.py"
title = "30 steps: quality at three speedups"
# Held-out prompts, which calibration does not use.
prompts = dict(heldout=24, seed=630)

settings = {
    **{
        f"lemica-{speedup}x": dict(cache=dict(calibrated=f"shapes_{{steps}}.json#lemica-{speedup}x"))
        for speedup in _base_._speedups
    },
    "forecastcache-8": dict(title="ForecastCache, 8 steps", cache=dict(_base_._forecast, computed_steps=8)),
    "forecastcache-tolerance": dict(
        title="ForecastCache to a tolerance",
        cache=dict(calibrated="shapes_forecast.json#forecastcache-tolerance", decision="sample"),
    ),
}
