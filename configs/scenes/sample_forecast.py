# ForecastCache on the bundled model: 14 of 30 steps, or n / 2.2 of n.
_base_ = ["sample.py"]

cache = dict(calibrated="scenes_30.json#forecastcache-2.2x", decision="sample")
