"""Measure what deciding costs: ``python scripts/measure_overhead.py CONFIG [--speedup X] [--repeats N]``.

Makes the config's first prompt with ForecastCache and prints the time spent in measuring forecasts and deciding, as a
share of the computed steps' time. CPU only: a device would need its own clock.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from statistics import median


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config of run_sample_video.sh")
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    from opensora_adacache.components import load_models
    from opensora_adacache.config import load_config
    from opensora_adacache.jobs import plan_jobs

    try:
        config = replace(load_config(options.config), cache=None, batch_size=1, overwrite=True)
        job = plan_jobs(config)[0]
        models = load_models(config, list(job.texts))
        shares = [measure(config, models, job, options.speedup) for _ in range(options.repeats)]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"measuring and deciding: {100 * median(shares):.2f} % of a computed step (median of {options.repeats})")
    return 0


def measure(config, models, job, speedup):
    """Return the share of one run."""
    from opensora_adacache import apply_cache
    from opensora_adacache.caching.forecast_config import ForecastCacheConfig
    from opensora_adacache.hosts.patches import wrapped

    spent = [0.0]

    def timed(original):
        def call(*args, **kwargs):
            start = time.perf_counter()
            result = original(*args, **kwargs)
            spent[0] += time.perf_counter() - start
            return result

        return call

    cache = ForecastCacheConfig(speedup=speedup, sensitivity=(2.0, 0.5))
    with apply_cache(models.transformer, cache, config.scheduler.num_sampling_steps) as session:
        # keep_residual measures the forecast; _close_step reads it and decides
        with wrapped(session, "keep_residual", timed), wrapped(session, "_close_step", timed):
            models.pipeline(config).denoise([job], models.features)
        computed = sum(record.milliseconds for record in session.trace if record.computed) / 1000
    return spent[0] / computed


if __name__ == "__main__":
    sys.exit(main())
