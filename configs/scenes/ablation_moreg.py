# Ablation of motion regularization on the bundled model.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

_moreg = dict(calibrated="scenes_30.json#moreg")

settings = dict(
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache)),
    moreg=dict(title="AdaCache + MoReg", paper="AdaCache+MoReg", cache=dict(_adacache, moreg=_moreg)),
    without_gradient=dict(
        title="MoReg without gradient",
        paper="MoReg without gradient",
        cache=dict(_adacache, moreg=dict(_moreg, gradient_weight=0)),
    ),
    multi_step=dict(
        title="MoReg multi-step",
        paper="MoReg multi-step",
        cache=dict(_adacache, moreg=dict(_moreg, strides=(1, 2, 4))),
    ),
)
