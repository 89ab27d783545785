# Every predictor with every kind of decision, with and without the corrector, at equal computed steps: make figures.
# A row of the settings is named DECISION+PREDICTOR+CORRECTOR-STEPS.
from opensora_adacache.benchmark.calibrated_settings import calibrated_settings
from opensora_adacache.caching.contract import PREDICTORS as _NAMES

run = "sample_30.py"
title = "30 steps: predictors, decisions and the corrector"
metrics = ("psnr", "ssim")
batch_size = 8
keep_videos = False
share_steps = True
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=24, seed=2031)

_speedups = {14: 2.2, 10: 3.0}
# A codebook, a threshold and a plan; a policy without calibrated settings is left out.
_calibrated = calibrated_settings("shapes_30.json", tuple(_speedups.values()))
_policies = ("adacache", "tafc", "dpcache")
_predictors = [name for name in _NAMES if name not in ("taylor-2", "measured-2")]
_correctors = dict(none=0.0, ours=0.5)


def _decisions(steps):
    """The cache section of each kind of decision for a number of computed steps."""
    names = {policy: f"{policy}-{_speedups[steps]:g}x" for policy in _policies}
    return {
        "static": dict(type="Planned", steps=tuple(1 + round(29 * i / (steps - 1)) for i in range(steps))),
        **{policy: _calibrated[name]["cache"] for policy, name in names.items() if name in _calibrated},
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
