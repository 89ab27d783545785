# AdaCache with motion regularization on the bundled model. The center is the median motion of the calibration prompts;
# power and gradient_weight are milder than the published 8 and 10, because this model's motion spreads wider.
_base_ = ["sample_adacache.py"]

cache = dict(moreg=dict(calibrated="scenes_30.json#moreg"))
