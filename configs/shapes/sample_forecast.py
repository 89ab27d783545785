# ForecastCache on the embedded model: 14 of 30 steps.
_base_ = ["sample.py", "forecast_profile.py"]

cache = dict(_base_._forecast, speedup=2.2)
