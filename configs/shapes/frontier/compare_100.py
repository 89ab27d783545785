# Every policy at three speedups, 100 steps: python scripts/compare.py configs/shapes/frontier/compare_100.py
_base_ = ["compare.py"]

run = "sample_100.py"
title = "100 steps: quality at three speedups"
# Held-out prompts, which calibration does not use.
prompts = dict(heldout=16, seed=700)

settings = {
    "forecastcache-28": dict(title="ForecastCache, 28 steps", cache=dict(_base_._forecast, computed_steps=28)),
}
