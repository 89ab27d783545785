# The counterpart of the paper's 480p-2s on the embedded model: 64x64, 17 frames.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "resolution 480p-2s"

# The codebook of sample_adacache.py.
_codebook = {0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1}
_adacache = dict(type="AdaCache", codebook=_codebook, decision="sample")

settings = dict(
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache)),
)
