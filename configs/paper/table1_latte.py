# Table 1 of the AdaCache paper, Latte: 512x512, 16 frames, 50 steps, one A100. The paper's prompts are VBench's.
# The codebooks for Latte were not published. These start from those for Open-Sora 1.2 at 30 steps; find the ones that
# compute as many steps as the paper's with
# python scripts/calibrate.py configs/latte/sample.py --policy adacache --speedup 3.4 1.7 --out latte_50.json
run = "../latte/sample.py"
metrics = ("psnr", "ssim", "lpips")
paper = "latte (512x512, 16 frames, 50 steps)"

_fast = dict(calibrated="open_sora_1_2_30.json#adacache-fast", cache_res=None, cache_loc=None, decision="sample")
_slow = dict(_fast, calibrated="open_sora_1_2_30.json#adacache-slow")
_moreg = dict(calibrated="open_sora_1_2_30.json#moreg")

# computed_steps: the printed TFLOPs divided by the baseline's, times 50.
settings = dict(
    adacache_fast=dict(title="AdaCache (fast)", paper="AdaCache-fast", cache=_fast, computed_steps=14.7),
    adacache_fast_moreg=dict(
        title="AdaCache (fast) + MoReg",
        paper="AdaCache-fast+MoReg",
        cache=dict(_fast, moreg=_moreg),
        computed_steps=17.3,
    ),
    adacache_slow=dict(title="AdaCache (slow)", paper="AdaCache-slow", cache=_slow, computed_steps=29.4),
)
