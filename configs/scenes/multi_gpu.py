# The paper's multi-GPU benchmark on the bundled model. configs/paper/multi_gpu.py describes what differs.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "multi-gpu open-sora, 1 GPU"

_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

settings = dict(
    pab579=dict(title="PAB579", paper="PAB", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache)),
)
