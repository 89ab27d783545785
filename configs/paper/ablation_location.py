# Ablation of the probe's layer: 720p, two seconds, 100 steps.
# The paper used 32 gallery prompts, conditioned on image and text according to its authors. We cannot ship them,
# so the prompts of the run config, assets/texts/gallery.txt, replace them. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_adacache = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")

# Layer 13 of 28 is the paper's middle. The paper does not print which layers are start, end and multiple.
# computed_steps: 100 x the printed latency divided by the baseline's (419.6 s), including text encoding and decoding.
settings = dict(
    start=dict(title="start", paper="location start", cache=dict(_adacache, cache_loc=(0,)), computed_steps=20.9),
    middle=dict(title="middle", paper="location middle", cache=dict(_adacache, cache_loc=(13,)), computed_steps=21.3),
    end=dict(title="end", paper="location end", cache=dict(_adacache, cache_loc=(27,)), computed_steps=21.7),
    multiple=dict(
        title="multiple", paper="location multiple", cache=dict(_adacache, cache_loc=(0, 13, 27)), computed_steps=21.5
    ),
)
