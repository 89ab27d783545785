# The paper's figure of multi-GPU latency: Open-Sora 1.2 at 480p, two seconds, 30 steps. The paper splits a video
# between devices (sequence parallelism). A run here distributes videos over processes (data parallelism), which does
# not change the latency of a video. The quoted column is therefore that of one GPU. Those of 2, 4 and 8 GPUs are in the
# tables "multi-gpu open-sora, 2 GPUs" and so on.
run = "../sample_30steps.py"
overrides = dict(reference_path=None, mask_strategy="")
paper = "multi-gpu open-sora, 1 GPU"

settings = dict(
    pab579=dict(title="PAB579", paper="PAB", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    adacache_fast=dict(
        title="AdaCache (fast)",
        paper="AdaCache",
        cache=dict(calibrated="open_sora_1_2_30.json#adacache-fast", granularity="stack", decision="sample"),
        computed_steps=12.4,  # the TFLOPs of Table 1 divided by the baseline's, times 30
    ),
)
