# ForecastCache on the embedded model to a tolerance: each video takes the steps that it needs, 8 or 9 of 30.
_base_ = ["sample.py", "forecast_profile.py"]

cache = dict(_base_._tolerant)
