# ForecastCache on the embedded model: one profile for all numbers of steps, and the default order 2. For 3x of 30
# steps, a schedule too sparse for it, calibration prefers order 1.
_base_ = ["../forecast_profile.py"]

settings = {
    "forecastcache-1.5x": dict(title="ForecastCache", cache=dict(_base_._forecast, speedup=1.5)),
    "forecastcache-2.2x": dict(title="ForecastCache", cache=dict(_base_._forecast, speedup=2.2)),
    "forecastcache-3x": dict(title="ForecastCache", cache=dict(_base_._forecast, speedup=3.0)),
}
