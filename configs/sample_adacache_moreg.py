# AdaCache with motion regularization at the published setting: more steps for more motion.
_base_ = ["sample_adacache.py"]

cache = dict(
    moreg=dict(
        type="MoReg",
        strides=(1,),
        steps=(0.1, 0.9),
        center=0.385,
        power=8,
        divisor=1,
        gradient_weight=10,
    ),
)
