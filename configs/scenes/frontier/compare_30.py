# Every policy at three speedups, 30 steps: python scripts/compare.py configs/scenes/frontier/compare_30.py
_base_ = ["compare.py"]

run = "sample_30.py"
title = "30 steps: quality at three speedups"
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=64, seed=2030)

calibrated = dict(file="scenes_30.json", speedups=(1.5, 2.2, 3))
_budgets = {1.5: 20, 2.2: 14, 3: 10}
settings = {
    **{
        f"adacache-forecast-{speedup}x": dict(
            title="AdaCache, forecast and corrector",
            cache=dict(_base_._adacache_forecast, calibrated=f"scenes_30.json#adacache-{speedup}x"),
            budget=budget,
        )
        for speedup, budget in _budgets.items()
    },
    "forecastcache-8": dict(
        title="ForecastCache, 8 steps",
        cache=dict(calibrated="scenes_30.json#forecastcache-3x", speedup=None, computed_steps=8, decision="sample"),
    ),
}
