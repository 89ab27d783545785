# Ablation of motion regularization: 720p, two seconds, 100 steps.
# The paper used 32 gallery prompts, conditioned on image and text according to its authors. We cannot ship them,
# so the prompts of the run config, assets/texts/gallery.txt, replace them. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_adacache = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")
_moreg = dict(calibrated="open_sora_1_2_100.json#moreg")

# The paper does not print the strides of the multi-step row.
# computed_steps: 100 x the printed latency divided by the baseline's (419.6 s), including text encoding and decoding.
settings = dict(
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache), computed_steps=21.3),
    moreg=dict(
        title="AdaCache + MoReg",
        paper="AdaCache+MoReg",
        cache=dict(_adacache, moreg=_moreg),
        computed_steps=22.3,
    ),
    without_gradient=dict(
        title="MoReg without gradient",
        paper="MoReg without gradient",
        cache=dict(_adacache, moreg=dict(_moreg, gradient_weight=0)),
        computed_steps=21.2,
    ),
    multi_step=dict(
        title="MoReg multi-step",
        paper="MoReg multi-step",
        cache=dict(_adacache, moreg=dict(_moreg, strides=(1, 2, 4))),
        computed_steps=22.8,
    ),
)
