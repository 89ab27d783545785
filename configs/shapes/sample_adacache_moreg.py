# AdaCache with motion regularization on the bundled model. The center is the median motion of the calibration prompts;
# power and gradient_weight are milder than the published 8 and 10, because this model's motion spreads wider: from 0.15
# (still) to 0.45 (fast).
_base_ = ["sample_adacache.py"]

cache = dict(moreg=dict(calibrated="shapes_30.json#moreg"))
