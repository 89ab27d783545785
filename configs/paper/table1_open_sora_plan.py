# Table 1 of the AdaCache paper, Open-Sora-Plan 1.1: 512x512, 65 frames, 150 steps, one A100. The paper's prompts are
# VBench's. The codebooks for Open-Sora-Plan were not published. These start from those for Open-Sora 1.2 at 30 steps.
# scripts/calibrate.py finds others only with another scheduler than PNDM, such as dict(type="DDIMScheduler").
run = "../open_sora_plan/sample.py"
metrics = ("psnr", "ssim", "lpips")
paper = "open-sora-plan-1.1 (512x512, 65 frames, 150 steps)"

_fast = dict(calibrated="open_sora_1_2_30.json#adacache-fast", cache_res=None, cache_loc=None, decision="sample")
_slow = dict(_fast, calibrated="open_sora_1_2_30.json#adacache-slow")
_moreg = dict(calibrated="open_sora_1_2_30.json#moreg")

settings = dict(
    adacache_fast=dict(title="AdaCache (fast)", paper="AdaCache-fast", cache=_fast),
    adacache_fast_moreg=dict(
        title="AdaCache (fast) + MoReg", paper="AdaCache-fast+MoReg", cache=dict(_fast, moreg=_moreg)
    ),
    adacache_slow=dict(title="AdaCache (slow)", paper="AdaCache-slow", cache=_slow),
)
