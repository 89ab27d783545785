# ForecastCache on the bundled model: 14 of 30 steps. The same profile works for any number of steps.
_base_ = ["sample.py"]

cache = dict(calibrated="shapes_forecast.json#forecastcache", speedup=2.2, decision="sample")
