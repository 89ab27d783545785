# Ablation of the probed residual: 720p, two seconds, 100 steps.
# The paper used 32 gallery prompts, conditioned on image and text according to its authors. We cannot ship them,
# so the prompts of the run config, assets/texts/gallery.txt, replace them. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_adacache = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")

# The paper prints cross-attention (83.25, 90.70 s) and MLP (83.62, 99.72 s) separately. Its code, like ours, probes
# their sum, so no printed row corresponds to "ca-mlp".
# computed_steps: 100 x the printed latency divided by the baseline's (419.6 s), including text encoding and decoding.
settings = dict(
    t_attn=dict(
        title="t-attn", paper="residual t-attn", cache=dict(_adacache, cache_res="t-attn"), computed_steps=21.3
    ),
    s_attn=dict(
        title="s-attn", paper="residual s-attn", cache=dict(_adacache, cache_res="s-attn"), computed_steps=21.2
    ),
    ca_mlp=dict(title="ca-mlp", cache=dict(_adacache, cache_res="ca-mlp")),
)
