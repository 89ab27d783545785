# Ablation of the codebook on the embedded model: the thresholds of sample_adacache.py with the paper's rates.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_thresholds = (0.04471, 0.08943, 0.1342, 0.1788, 0.2236, 0.5589)
_adacache = dict(type="AdaCache", decision="sample")
_fast = dict(zip(_thresholds, (6, 5, 4, 3, 2, 1), strict=True))
_medium = dict(zip(_thresholds, (8, 6, 4, 2, 1, 1), strict=True))
_slow = dict(zip(_thresholds, (3, 2, 1, 1, 1, 1), strict=True))

settings = dict(
    fast=dict(title="codebook fast", paper="codebook fast", cache=dict(_adacache, codebook=_fast)),
    medium=dict(title="codebook medium", paper="codebook medium", cache=dict(_adacache, codebook=_medium)),
    slow=dict(title="codebook slow", paper="codebook slow", cache=dict(_adacache, codebook=_slow)),
)
