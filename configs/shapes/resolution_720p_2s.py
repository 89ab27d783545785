# The counterpart of the paper's 720p-2s on the embedded model: 96x96, 17 frames. It was not trained at this size.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
overrides = dict(image_size=(96, 96))
paper = "resolution 720p-2s"

# The codebook of sample_adacache.py.
_codebook = {0.04171: 6, 0.08344: 5, 0.1252: 4, 0.1668: 3, 0.2086: 2, 0.5215: 1}
_adacache = dict(type="AdaCache", codebook=_codebook, decision="sample")

settings = dict(
    adacache=dict(title="AdaCache", paper="AdaCache", cache=dict(_adacache)),
)
