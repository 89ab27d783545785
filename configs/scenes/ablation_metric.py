# Ablation of the distance metric on the bundled model, each with thresholds that compute 1 / 2.5 of the steps.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_l1 = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")
_l2 = dict(_l1, calibrated="scenes_30.json#adacache-2.5x-l2")
_cosine = dict(_l1, calibrated="scenes_30.json#adacache-2.5x-cosine")

settings = dict(
    l1=dict(title="metric L1", paper="metric L1", cache=_l1),
    l2=dict(title="metric L2", paper="metric L2", cache=_l2),
    cosine=dict(title="metric cosine", paper="metric cosine", cache=_cosine),
)
