"""Measure the overhead of ForecastCache: ``python scripts/experiments/measure_overhead.py CONFIG [--speedup X]``.

This makes the config's first prompt with ForecastCache. It prints the time spent on measuring forecasts and deciding
at computed steps, and on correcting outputs at all steps, as a percentage of the time of the computed steps. It runs
on the CPU only, because a GPU would need device timers.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from unittest.mock import patch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count

# The parts to measure, and the methods of the session and its run that they consist of.
PARTS = {
    "measuring and deciding": (("session", "keep_residual"), ("run", "close_step")),
    "correcting": (("session", "correct"),),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="run config, as for run_sample_video.sh")
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--repeats", type=count, default=3)
    return run_command(measure_overhead, parser.parse_args(arguments))


def measure_overhead(options):
    """Print the percentage of each part."""
    from opensora_adacache.config import load_config
    from opensora_adacache.generation.jobs import plan_jobs
    from opensora_adacache.generation.loading import load_models

    config = replace(load_config(options.config), cache=None, batch_size=1, overwrite=True)
    job = plan_jobs(config)[0]
    models = load_models(config, list(job.texts))
    shares = [measure(config, models, job, options.speedup) for _ in range(options.repeats)]
    for part in PARTS:
        share = 100 * median(run[part] for run in shares)
        print(f"{part}: {share:.2f} % of the computed steps (median of {options.repeats} runs)")


def measure(config, models, job, speedup):
    """Return the fraction of each part in one run."""
    from opensora_adacache import apply_cache
    from opensora_adacache.caching.forecast.config import ForecastCacheConfig
    from opensora_adacache.caching.run_state import Run

    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part):
        def wrapper(original):
            def call(*args, **kwargs):
                start = time.perf_counter()
                result = original(*args, **kwargs)
                spent[part] += time.perf_counter() - start
                return result

            return call

        return wrapper

    cache = ForecastCacheConfig(speedup=speedup, corrector=0.5, sensitivity=(2.0, 0.5))
    with apply_cache(models.transformer, cache, config.scheduler.num_sampling_steps) as session:
        owners = {"session": session, "run": Run}
        with ExitStack() as patches:
            for part, methods in PARTS.items():
                for owner, method in methods:
                    timed_method = timed(part)(getattr(owners[owner], method))
                    patches.enter_context(patch.object(owners[owner], method, timed_method))
            models.pipeline(config).denoise([job], models.features)
        computed = sum(record.milliseconds for record in session.trace if record.computed) / 1000
    return {part: seconds / computed for part, seconds in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
