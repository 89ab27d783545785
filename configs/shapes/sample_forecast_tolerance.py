# ForecastCache on the bundled model to a tolerance: each video computes as many steps as it needs, 8 or 9 of 30.
_base_ = ["sample.py"]

cache = dict(calibrated="shapes_30.json#forecastcache-tolerance", decision="sample")
