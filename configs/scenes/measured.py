# The bundled model with and without AdaCache, on held-out prompts that neither training nor calibration used: what the
# checker reads correctly, computed steps, speed and PSNR.
# OMP_NUM_THREADS=1 python scripts/compare.py configs/scenes/measured.py --out outputs/measured
run = "sample.py"
title = "The bundled model, measured"
prompts = dict(heldout=64, seed=61)
metrics = ("psnr", "ssim")

_adacache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

settings = {
    "adacache": dict(title="AdaCache", cache=_adacache),
    "adacache-moreg": dict(
        title="AdaCache + MoReg", cache=dict(_adacache, moreg=dict(calibrated="scenes_30.json#moreg"))
    ),
}
