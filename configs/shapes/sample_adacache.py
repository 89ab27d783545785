# AdaCache on the embedded model.
_base_ = ["sample.py"]

cache = dict(
    type="AdaCache",
    # TO BE CALIBRATED on this model's own traces; these are the published 30-step thresholds.
    codebook={0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1},
    granularity="stack",
    decision="sample",
)
