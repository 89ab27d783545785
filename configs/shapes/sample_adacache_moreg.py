# AdaCache with motion regularization on the embedded model.
_base_ = ["sample_adacache.py"]

cache = dict(
    # TO BE CALIBRATED on this model's own traces; these are the published 30-step values.
    moreg=dict(
        type="MoReg",
        strides=(1,),
        steps=(4, 26),
        center=0.385,
        power=8,
        divisor=1,
        gradient_weight=10,
    ),
)
