# AdaCache with motion regularization on the embedded model.
_base_ = ["sample_adacache.py"]

cache = dict(
    moreg=dict(
        type="MoReg",
        strides=(1,),
        steps=(4 / 30, 26 / 30),
        # The median motion of the calibration prompts (printed by scripts/calibrate.py). Power and gradient_weight are
        # milder than the published 8 and 10: this model's motion spreads wider, from 0.15 (still) to 0.45 (fast).
        center=0.315,
        power=2,
        divisor=1,
        gradient_weight=1,
    ),
)
