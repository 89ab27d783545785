# ForecastCache on the embedded model: one profile for all numbers of steps.
_base_ = ["../forecast_profile.py"]

settings = {
    "forecastcache-1.5x": dict(title="ForecastCache", cache=dict(_base_._forecast, speedup=1.5)),
    "forecastcache-2.2x": dict(title="ForecastCache", cache=dict(_base_._forecast, speedup=2.2)),
    "forecastcache-3x": dict(title="ForecastCache", cache=dict(_base_._forecast, speedup=3.0)),
}
