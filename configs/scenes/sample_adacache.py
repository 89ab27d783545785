# AdaCache on the bundled model. The codebook has the published fast thresholds, scaled by one factor that was
# calibrated on uncached traces of this model.
_base_ = ["sample.py"]

cache = dict(calibrated="scenes_30.json#adacache-2.5x", granularity="stack", decision="sample")
