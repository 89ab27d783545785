# AdaCache on the bundled model. The codebook was found from this model's own uncached traces: the published fast
# thresholds, all scaled by one factor.
_base_ = ["sample.py"]

cache = dict(calibrated="shapes_30.json#adacache-2.5x", granularity="stack", decision="sample")
