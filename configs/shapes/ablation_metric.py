# Ablation of the distance metric on the embedded model, each with thresholds for 2.5 times fewer computed steps: those
# of sample_adacache.py for "l1", for the others scripts/calibrate.py --speedup 2.5 --limit 12 on the calibration
# prompts. "l2" began from the published thresholds, "cosine" from half their squares, which is what 1 - cos comes to
# for small changes.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_l1 = {0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1}
_l2 = {0.04124: 6, 0.08248: 5, 0.1237: 4, 0.165: 3, 0.2062: 2, 0.5155: 1}
_cosine = {0.001269: 6, 0.005078: 5, 0.01142: 4, 0.02031: 3, 0.03174: 2, 0.1983: 1}
_adacache = dict(type="AdaCache", decision="sample")

settings = dict(
    l1=dict(title="metric L1", paper="metric L1", cache=dict(_adacache, metric="l1", codebook=_l1)),
    l2=dict(title="metric L2", paper="metric L2", cache=dict(_adacache, metric="l2", codebook=_l2)),
    cosine=dict(title="metric cosine", paper="metric cosine", cache=dict(_adacache, metric="cosine", codebook=_cosine)),
)
