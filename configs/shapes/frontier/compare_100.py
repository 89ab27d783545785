# Every policy at three speedups, 100 steps: python scripts/compare.py configs/shapes/frontier/compare_100.py
_base_ = ["compare.py"]

run = "sample_100.py"
title = "100 steps: quality at three speedups"
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=32, seed=2100)

calibrated = dict(file="shapes_100.json", speedups=(1.5, 2.2, 3))
_budgets = {1.5: 67, 2.2: 45, 3: 33}
settings = {
    **{
        f"adacache-forecast-{speedup}x": dict(
            title="AdaCache, forecast and corrector",
            cache=dict(_base_._adacache_forecast, calibrated=f"shapes_100.json#adacache-{speedup}x"),
            budget=budget,
        )
        for speedup, budget in _budgets.items()
    },
    "forecastcache-28": dict(
        title="ForecastCache, 28 steps",
        cache=dict(calibrated="shapes_100.json#forecastcache-3x", speedup=None, computed_steps=28, decision="sample"),
    ),
}
