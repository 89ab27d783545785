# Ablation of motion regularization: 720p, two seconds, 100 steps.
# The paper made 32 gallery prompts from an image and text (according to its authors). Those prompts are not ours to
# ship: the run config's own, assets/texts/gallery.txt, stand in. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_adacache = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")
_moreg = dict(calibrated="open_sora_1_2_100.json#moreg")

# The strides of the multi-step row are not printed.
# computed_steps: 100 x the printed latency over that of the baseline (419.6 s), text and decoding included.
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
