# Every predictor with every kind of decision, with and without the corrector, at equal computed steps: make figures.
# A row of the settings is named DECISION+PREDICTOR+CORRECTOR-STEPS.
run = "sample_30.py"
title = "30 steps: predictors, decisions and the corrector"
metrics = ("psnr", "ssim")
batch_size = 8
keep_videos = False
share_steps = True
# Held-out prompts, which calibration does not use; --prompt-seed draws others.
prompts = dict(heldout=24, seed=2031)

_speedups = {14: 2.2, 10: 3.0}
# A codebook, a threshold and a plan; ForecastCache plans while it runs.
_policies = ("adacache", "easycache", "dpcache")
# "taylor-1" is left out: the steps of the bundled model are equally long, so it is the line.
_predictors = ("reuse", "line", "hermite", "heun", "chebyshev", "exponential", "measured-1")
_correctors = dict(none=0.0, ours=0.5)


def _decisions(steps):
    """The cache section of each kind of decision for a number of computed steps."""
    return {
        "static": dict(type="Planned", steps=tuple(1 + round(29 * i / (steps - 1)) for i in range(steps))),
        **{name: dict(calibrated=f"scenes_30.json#{name}-{_speedups[steps]:g}x") for name in _policies},
        "forecastcache": dict(calibrated=f"scenes_30.json#forecastcache-{_speedups[steps]:g}x"),
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
