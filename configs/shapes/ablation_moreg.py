# Ablation of motion regularization on the embedded model.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

# The codebook of sample_adacache.py.
_codebook = {0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1}
_adacache = dict(type="AdaCache", codebook=_codebook, decision="sample")

# The constants of sample_adacache_moreg.py.
_moreg = dict(strides=(1,), steps=(4, 26), center=0.315, power=2, divisor=1, gradient_weight=1)

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
