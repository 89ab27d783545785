# Every policy at three speedups, 50 steps: python scripts/compare.py configs/shapes/frontier/compare_50.py
_base_ = ["compare.py"]

run = "sample_50.py"
title = "50 steps: quality at three speedups"
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=32, seed=2050)

calibrated = dict(file="shapes_50.json", speedups=(1.5, 2.2, 3))
_budgets = {1.5: 33, 2.2: 23, 3: 17}
settings = {
    **{
        f"adacache-forecast-{speedup}x": dict(
            title="AdaCache, forecast and corrector",
            cache=dict(_base_._adacache_forecast, calibrated=f"shapes_50.json#adacache-{speedup}x"),
            budget=budget,
        )
        for speedup, budget in _budgets.items()
    },
    "forecastcache-13": dict(
        title="ForecastCache, 13 steps",
        cache=dict(calibrated="shapes_50.json#forecastcache-3x", speedup=None, computed_steps=13, decision="sample"),
    ),
}
