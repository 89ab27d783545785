# Every policy at three speedups, 50 steps: python scripts/compare.py configs/shapes/frontier/compare_50.py
_base_ = ["compare.py"]

run = "sample_50.py"
title = "50 steps: quality at three speedups"
# Held-out prompts, which calibration does not use.
prompts = dict(heldout=16, seed=650)

settings = {
    **{
        f"lemica-{speedup}x": dict(cache=dict(calibrated=f"shapes_{{steps}}.json#lemica-{speedup}x"))
        for speedup in _base_._speedups
    },
    "forecastcache-13": dict(title="ForecastCache, 13 steps", cache=dict(_base_._forecast, computed_steps=13)),
}
