# Every policy at three speedups, 50 steps: python scripts/compare.py configs/shapes/frontier/compare_50.py
from opensora_adacache.benchmark.calibrated_settings import calibrated_settings

_base_ = ["compare.py"]

run = "sample_50.py"
title = "50 steps: quality at three speedups"
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=32, seed=2050)

_calibrated = calibrated_settings("shapes_50.json", _base_._speedups)
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
    "forecastcache-13": dict(title="ForecastCache, 13 steps", cache=dict(_base_._forecast, computed_steps=13)),
}
