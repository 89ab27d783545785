# AdaCache "fast" with motion regularization at 30 steps.
_base_ = ["sample_30steps_adacache_fast.py"]

cache = dict(
    moreg=dict(
        type="MoReg",
        strides=(1,),
        steps=(4 / 30, 26 / 30),
        center=0.385,
        power=8,
        divisor=1,
        gradient_weight=10,
    ),
)
