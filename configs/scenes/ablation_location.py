# Ablation of the probe's layer on the bundled model, which has six layers.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

settings = dict(
    start=dict(title="location start", paper="location start", cache=dict(_adacache, cache_loc=(0,))),
    middle=dict(title="location middle", paper="location middle", cache=dict(_adacache, cache_loc=(2,))),
    end=dict(title="location end", paper="location end", cache=dict(_adacache, cache_loc=(5,))),
    multiple=dict(title="location multiple", paper="location multiple", cache=dict(_adacache, cache_loc=(0, 2, 5))),
)
