# Ablation of the distance metric on the embedded model, each with thresholds for 2.5 times fewer computed steps:
# scripts/calibrate.py --speedup 2.5 --limit 12 on the calibration prompts. "l2" began from the published thresholds,
# "cosine" from half their squares, which is what 1 - cos comes to for small changes.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_l1 = {0.04171: 6, 0.08344: 5, 0.1252: 4, 0.1668: 3, 0.2086: 2, 0.5215: 1}
_l2 = {0.04132: 6, 0.08264: 5, 0.124: 4, 0.1653: 3, 0.2066: 2, 0.5165: 1}
_cosine = {0.001258: 6, 0.005031: 5, 0.01132: 4, 0.02012: 3, 0.03145: 2, 0.1965: 1}
_adacache = dict(type="AdaCache", decision="sample")

settings = dict(
    l1=dict(title="metric L1", paper="metric L1", cache=dict(_adacache, metric="l1", codebook=_l1)),
    l2=dict(title="metric L2", paper="metric L2", cache=dict(_adacache, metric="l2", codebook=_l2)),
    cosine=dict(title="metric cosine", paper="metric cosine", cache=dict(_adacache, metric="cosine", codebook=_cosine)),
)
