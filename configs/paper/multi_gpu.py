# The paper's figure of multi-GPU latency: Open-Sora 1.2 at 480p, two seconds, 30 steps, on one to eight A100.
# scripts/compare.py makes each video on one device, beside the quoted column of one GPU. scripts/plan.py predicts the
# latency on several devices (docs/guide/parallel.md). To split a video, set parallel=dict(sequence=…) in a run config.
run = "../sample_30steps.py"
overrides = dict(reference_path=None, mask_strategy="")
paper = "multi-gpu open-sora, 1 GPU"
devices = {
    1: "multi-gpu open-sora, 1 GPU",
    2: "multi-gpu open-sora, 2 GPUs",
    4: "multi-gpu open-sora, 4 GPUs",
    8: "multi-gpu open-sora, 8 GPUs",
}

settings = dict(
    pab579=dict(title="PAB579", paper="PAB", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    adacache_fast=dict(
        title="AdaCache (fast)",
        paper="AdaCache",
        cache=dict(calibrated="open_sora_1_2_30.json#adacache-fast", granularity="stack", decision="sample"),
        computed_steps=12.4,  # the TFLOPs of Table 1 divided by the baseline's, times 30
    ),
)
