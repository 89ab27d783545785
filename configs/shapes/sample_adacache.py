# AdaCache on the embedded model.
_base_ = ["sample.py"]

cache = dict(
    type="AdaCache",
    # From this model's own uncached traces, for 2.5x (the published fast thresholds, all scaled by one factor):
    # python scripts/calibrate.py configs/shapes/sample_adacache.py --speedup 2.5 \
    #     --prompt-path assets/shapes/calibration.txt
    codebook={0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1},
    granularity="stack",
    decision="sample",
)
