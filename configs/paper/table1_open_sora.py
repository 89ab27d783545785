# Table 1 of the AdaCache paper, Open-Sora 1.2: 480p, two seconds, 30 steps, one A100.
# All rows use text only, so that they are comparable. (So do the paper's PAB, T-GATE and Δ-DiT rows; its AdaCache rows
# used image and text, according to its authors.) The paper's prompts are VBench's.
run = "../sample_30steps.py"
overrides = dict(reference_path=None, mask_strategy="")
metrics = ("psnr", "ssim", "lpips")
paper = "open-sora-1.2 (480p, 2s, 30 steps)"

_fast = dict(calibrated="open_sora_1_2_30.json#adacache-fast", granularity="stack", decision="sample")
_slow = dict(_fast, calibrated="open_sora_1_2_30.json#adacache-slow")
_moreg = dict(calibrated="open_sora_1_2_30.json#moreg")

# computed_steps: the printed TFLOPs divided by the baseline's, times 30.
settings = dict(
    delta_dit=dict(
        title="Δ-DiT", paper="Delta-DiT", cache=dict(type="DeltaDiT", interval=2, gate_step=6, early=(0, 5))
    ),
    tgate=dict(title="T-GATE", paper="T-GATE", cache=dict(type="TGATE", gate_step=12, interval=2)),
    pab579=dict(title="PAB579", paper="PAB-fast", cache=dict(type="PAB", spatial=5, temporal=7, cross=9)),
    pab246=dict(title="PAB246", paper="PAB-slow", cache=dict(type="PAB", spatial=2, temporal=4, cross=6)),
    adacache_fast=dict(
        title="AdaCache (fast)",
        paper="AdaCache-fast",
        cache=_fast,
        computed_steps=12.4,
    ),
    adacache_fast_moreg=dict(
        title="AdaCache (fast) + MoReg",
        paper="AdaCache-fast+MoReg",
        cache=dict(_fast, moreg=_moreg),
        computed_steps=12.9,
    ),
    adacache_slow=dict(
        title="AdaCache (slow)",
        paper="AdaCache-slow",
        cache=_slow,
        computed_steps=20.4,
    ),
)
