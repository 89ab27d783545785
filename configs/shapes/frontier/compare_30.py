# Every policy at three speedups, 30 steps: python scripts/compare.py configs/shapes/frontier/compare_30.py
from opensora_adacache.benchmark.calibrated_settings import calibrated_settings

_base_ = ["compare.py"]

run = "sample_30.py"
title = "30 steps: quality at three speedups"
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=64, seed=2030)

_calibrated = calibrated_settings("shapes_30.json", _base_._speedups)
settings = {
    **_calibrated,
    **{
        name.replace("adacache", "adacache-forecast"): dict(
            setting,
            title="AdaCache, forecast and corrector",
            cache=dict(setting["cache"], **_base_._adacache_forecast),
        )
        for name, setting in _calibrated.items()
        if name.startswith("adacache-")
    },
    "forecastcache-8": dict(title="ForecastCache, 8 steps", cache=dict(_base_._forecast, computed_steps=8)),
    "forecastcache-tolerance": dict(
        title="ForecastCache to a tolerance",
        cache=dict(calibrated="shapes_forecast.json#forecastcache-tolerance", decision="sample"),
    ),
}
