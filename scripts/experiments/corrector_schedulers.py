"""What the corrector gains with schedulers of diffusers: ``python scripts/experiments/corrector_schedulers.py``.

Denoises prompts with the bundled model under several schedulers of diffusers in flow prediction, with ForecastCache
from the preset of the model: without a corrector, with the one of the preset, and with it as if the scheduler took
Euler steps along a rectified flow. Prints a table of the mean PSNR of the videos to the uncached ones of the same
scheduler.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from statistics import fmean

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}
# title -> class and config
SCHEDULERS = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "Euler, shift 3": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "UniPC, order 2": ("UniPCMultistepScheduler", FLOW),
    "UniPC, order 2, shift 3": ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 3.0}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", FLOW),
}
STEPS = 30


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/scenes/sample.py", help="config of the bundled model")
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.2, 3.0])
    parser.add_argument("--limit", type=count, default=16, help="number of prompts (default: %(default)s)")
    return run_command(compare, parser.parse_args(arguments))


def compare(options: argparse.Namespace) -> None:
    """Print the table."""
    from opensora_adacache.config import load_config
    from opensora_adacache.generation.jobs import plan_jobs
    from opensora_adacache.generation.loading import load_models
    from opensora_adacache.metrics.quality import psnr
    from opensora_adacache.presets.identity import identity_of_stdit3
    from opensora_adacache.presets.lookup import find_settings

    config = replace(load_config(options.config), overwrite=True)
    jobs = plan_jobs(config)[: options.limit]
    models = load_models(config, [job.texts[0] for job in jobs])
    identity = identity_of_stdit3(models.transformer.config)
    print("| scheduler | speedup | no corrector | corrector | as a rectified flow |\n| --- | --- | --- | --- | --- |")
    for title in SCHEDULERS:
        uncached = videos(config, models, jobs, title, None)
        for speedup in options.speedups:
            preset = replace(find_settings(identity, speedup, "forecastcache").at(STEPS), decision="sample")
            found = [
                fmean(map(psnr, videos(config, models, jobs, title, cache, known), uncached))
                for cache, known in ((replace(preset, corrector=0.0), True), (preset, True), (preset, False))
            ]
            print(f"| {title} | {speedup:g} | {' | '.join(f'{value:.2f}' for value in found)} |", flush=True)


def videos(config, models, jobs, title, cache, scheduler_is_known=True):
    """Return the frames of the jobs, made in one batch with a scheduler of diffusers."""
    import diffusers
    import torch

    from opensora_adacache.adapters import apply_cache

    kind, settings = SCHEDULERS[title]
    scheduler = getattr(diffusers, kind)(**settings)
    scheduler.set_timesteps(STEPS)
    pipeline, model = models.pipeline(config), models.transformer
    z = torch.stack([noise(models, config, job) for job in jobs])
    texts = [job.texts[0] for job in jobs]
    size = {"height": config.image_size[0], "width": config.image_size[1], "fps": config.fps}
    size = {name: torch.full((2 * len(jobs),), float(value)) for name, value in size.items()}
    text = models.features.encode(texts)
    y = torch.cat([text["y"], models.features.null(len(jobs)).to(text["y"])])
    told = scheduler if scheduler_is_known else "rectified flow"
    session = None if cache is None else apply_cache(model, cache, STEPS, scheduler=told)
    with torch.no_grad():
        for t in scheduler.timesteps:
            times = torch.full((len(z) * 2,), float(t))
            prompt, null = model(torch.cat([z, z]), times, y=y, mask=text["mask"], **size)[:, : z.shape[1]].chunk(2)
            velocity = torch.lerp(null, prompt, config.scheduler.cfg_scale)
            z = scheduler.step(-velocity, t, z, return_dict=False)[0]  # diffusers' velocity points to the noise
        frames = [pipeline.decode(latents).clamp(-1, 1) for latents in z]
    if session is not None:
        session.detach()
    return frames


def noise(models, config, job):
    """Return the noise of a job, as a run draws it."""
    import torch

    size = models.vae.latent_size((config.num_frames, *config.image_size))
    return torch.randn((models.vae.out_channels, *size), generator=torch.Generator().manual_seed(job.loop_seed(0)))


if __name__ == "__main__":
    sys.exit(main())
