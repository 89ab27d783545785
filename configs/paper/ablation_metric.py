# Ablation of the distance metric: 720p, two seconds, 100 steps.
# The paper used 32 gallery prompts, conditioned on image and text according to its authors. We cannot ship them,
# so the prompts of the run config, assets/texts/gallery.txt, replace them. Make their images first:
# bash run_sample_image.sh configs/sample.py
run = "../sample.py"
paper = "ablations"

_fast = dict(calibrated="open_sora_1_2_100.json#adacache-fast", granularity="stack", decision="sample")
# The thresholds are for "l1"; the paper prints none for the other metrics. They are a starting point that must be
# calibrated to compare metrics at equal speed: for residuals that change evenly, "l2" is the same number and 1 - cos is
# about half its square.
_cosine = dict(_fast, calibrated="open_sora_1_2_100.json#adacache-cosine")

# computed_steps: 100 x the printed latency divided by the baseline's (419.6 s), including text encoding and decoding.
settings = dict(
    l1=dict(title="L1", paper="metric L1", cache=dict(_fast, metric="l1"), computed_steps=21.3),
    l2=dict(title="L2", paper="metric L2", cache=dict(_fast, metric="l2"), computed_steps=22.1),
    cosine=dict(
        title="cosine",
        paper="metric cosine",
        cache=_cosine,
        computed_steps=20.7,
    ),
)
