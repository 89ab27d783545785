# The paper's multi-GPU comparison on the embedded model; see configs/paper/multi_gpu.py for what differs.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "multi-gpu open-sora, 1 GPU"

# The codebook of sample_adacache.py.
_codebook = {0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1}
_adacache = dict(type="AdaCache", codebook=_codebook, decision="sample")

settings = dict(
    pab579=dict(title="PAB579", paper="PAB", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache)),
)
