# Ablation of the layer that is watched: 720p, two seconds, 100 steps.
# The paper made 32 gallery prompts from an image and text (according to its authors). Those prompts are not ours to
# ship: the run config's own, assets/texts/gallery.txt, stand in. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_adacache = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")

# Of the 28 layers, 13 is the paper's middle; which ones it calls start, end and multiple is not printed.
# computed_steps: 100 x the printed latency over that of the baseline (419.6 s), text and decoding included.
settings = dict(
    start=dict(title="start", paper="location start", cache=dict(_adacache, cache_loc=(0,)), computed_steps=20.9),
    middle=dict(title="middle", paper="location middle", cache=dict(_adacache, cache_loc=(13,)), computed_steps=21.3),
    end=dict(title="end", paper="location end", cache=dict(_adacache, cache_loc=(27,)), computed_steps=21.7),
    multiple=dict(
        title="multiple", paper="location multiple", cache=dict(_adacache, cache_loc=(0, 13, 27)), computed_steps=21.5
    ),
)
