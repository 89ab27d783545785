# Every predictor with every kind of decision, with and without the corrector, at equal computed steps: make figures.
# A row of the settings is named DECISION+PREDICTOR+CORRECTOR-STEPS.
from opensora_adacache.caching.contract import PREDICTORS as _NAMES

run = "sample_30.py"
title = "30 steps: predictors, decisions and the corrector"
metrics = ("psnr", "ssim")
batch_size = 8
keep_videos = False
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=32, seed=2031)

_speedups = {14: "2.2x", 10: "3x"}
_predictors = [name for name in _NAMES if name not in ("taylor-2", "measured-2")]
_correctors = dict(none=0.0, ours=0.5)


def _decisions(steps):
    """The cache section of each kind of decision for a number of computed steps."""
    speedup = _speedups[steps]
    return {
        "static": dict(type="Planned", steps=tuple(1 + round(29 * i / (steps - 1)) for i in range(steps))),
        "adacache": dict(calibrated=f"shapes_30.json#adacache-{speedup}"),
        "tafc": dict(calibrated=f"shapes_30.json#tafc-{speedup}"),
        "dpcache": dict(calibrated=f"shapes_30.json#dpcache-{speedup}"),
        "forecastcache": dict(calibrated="shapes_forecast.json#forecastcache", computed_steps=steps),
    }


settings = {
    f"{decision}+{predictor}+{name}-{steps}": dict(
        cache=dict(cache, decision="sample", predictor=predictor, corrector=corrector), budget=steps
    )
    for steps in _speedups
    for decision, cache in _decisions(steps).items()
    for predictor in _predictors
    for name, corrector in _correctors.items()
}
