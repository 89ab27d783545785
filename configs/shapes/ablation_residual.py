# Ablation of the residual that is probed, on the embedded model.
# Sixteen held-out prompts; the quoted column is the published model's, for the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

# The codebook of sample_adacache.py.
_codebook = {0.04471: 6, 0.08943: 5, 0.1342: 4, 0.1788: 3, 0.2236: 2, 0.5589: 1}
_adacache = dict(type="AdaCache", codebook=_codebook, decision="sample")

# The reference, and with it the "ca-mlp" here, sees cross-attention and MLP as one residual.
settings = dict(
    t_attn=dict(title="residual t-attn", paper="residual t-attn", cache=dict(_adacache, cache_res="t-attn")),
    s_attn=dict(title="residual s-attn", paper="residual s-attn", cache=dict(_adacache, cache_res="s-attn")),
    ca_mlp=dict(title="residual ca-mlp", cache=dict(_adacache, cache_res="ca-mlp")),
)
