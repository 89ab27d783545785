# The counterpart of the paper's 480p-2s on the bundled model: 96x96, 17 frames.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "resolution 480p-2s"

_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

settings = dict(
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache)),
)
