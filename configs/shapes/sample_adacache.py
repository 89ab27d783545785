# AdaCache on the embedded model.
_base_ = ["sample.py"]

cache = dict(
    type="AdaCache",
    # From this model's own uncached traces, for 2.5x (the published fast thresholds, all scaled by one factor):
    # python scripts/calibrate.py configs/shapes/sample_adacache.py --speedup 2.5 \
    #     --prompt-path assets/shapes/calibration.txt
    codebook={0.03798: 6, 0.07597: 5, 0.114: 4, 0.1519: 3, 0.1899: 2, 0.4748: 1},
    granularity="stack",
    decision="sample",
)
