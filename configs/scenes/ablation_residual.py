# Ablation of the probed residual on the bundled model.
# Sixteen held-out prompts. The quoted column is the published model's and shows the trend only.
run = "sample.py"
prompts = dict(heldout=16, seed=43)
paper = "ablations"

_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

# "ca-mlp" treats cross-attention and MLP as one residual, like the reference.
settings = dict(
    t_attn=dict(title="residual t-attn", paper="residual t-attn", cache=dict(_adacache, cache_res="t-attn")),
    s_attn=dict(title="residual s-attn", paper="residual s-attn", cache=dict(_adacache, cache_res="s-attn")),
    ca_mlp=dict(title="residual ca-mlp", cache=dict(_adacache, cache_res="ca-mlp")),
)
