"""How far ForecastCache is from the best schedules: ``python scripts/oracle.py CONFIG [--limit N] [--rounds R]``.

CONFIG is a comparison config (configs/shapes/frontier/compare_30.py) with ForecastCache settings of a budget. For each
of them, on the same videos, this searches for the best schedule of as many computed steps, by the PSNR of the float
frames to the uncached ones and with the same forecast and corrector: one schedule for all videos (static), one for
each video, and the best split of the steps over the videos, among the budgets that were searched. Prints a Markdown
table; --out FILE.md writes it, and FILE.json with the schedules.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a comparison config")
    parser.add_argument("--limit", type=int, default=8, help="take only the first N prompts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="moves to try in each search (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    options = parser.parse_args(arguments)
    from opensora_adacache.benchmark.config import load_comparison
    from opensora_adacache.benchmark.runner import plan_tasks
    from opensora_adacache.media.files import write_file

    try:
        if options.rounds < 0:
            raise ValueError(f"--rounds must be at least 0, got {options.rounds}")
        comparison, tasks = plan_tasks(load_comparison(options.config), options.limit)
        settings = budgets(comparison)
        bench = Bench(comparison.run, [task.job for task in tasks])
        found = [search(bench, setting.config.cache, options.rounds) for setting in settings]
        lines = table(found, bench)
        print("\n".join(lines))
        if options.out:
            command = f"python scripts/oracle.py {options.config} --limit {options.limit} --rounds {options.rounds}"
            head = ["# ForecastCache beside the best schedules", "", f"Made by `{command} --out {options.out}`.", ""]
            write_file(options.out, "\n".join([*head, *lines, ""]).encode())
            write_file(options.out.with_suffix(".json"), (json.dumps([vars(f) for f in found]) + "\n").encode())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def budgets(comparison):
    """Return the settings of ForecastCache with a budget."""
    from opensora_adacache.caching.forecast.config import ForecastCacheConfig

    steps = comparison.run.scheduler.num_sampling_steps
    caches = [(setting, setting.config.cache) for setting in comparison.settings]
    found = [s for s, cache in caches if isinstance(cache, ForecastCacheConfig) and cache.budget(steps)]
    if not found:
        raise ValueError(f"'{comparison.path}' has no ForecastCache with a speedup or computed_steps")
    return found


class Bench:
    """Models, videos and their uncached frames."""

    def __init__(self, config, jobs):
        from opensora_adacache.generation.loading import load_models

        self.models = load_models(config, [text for job in jobs for text in job.texts])
        self.jobs, self.num_steps = jobs, config.scheduler.num_sampling_steps
        self.pipeline = self.models.pipeline(config)
        self.uncached = self._frames(None)[0]

    def run(self, cache):
        """Return the PSNR of each video and its computed steps."""
        from opensora_adacache.caching.trace import computed_steps
        from opensora_adacache.metrics.quality import psnr

        frames, traces = self._frames(cache)
        values = [psnr(one, other) for one, other in zip(frames, self.uncached, strict=True)]
        return values, [tuple(computed_steps(trace)) for trace in traces]

    def _frames(self, cache):
        from opensora_adacache.adapters.stdit3.attach import attach_stdit3

        traces = []
        if cache is None:
            latents, _ = self.pipeline.denoise(self.jobs, self.models.features)
        else:
            with attach_stdit3(self.models.transformer, cache, self.num_steps) as session:
                latents, _ = self.pipeline.denoise(self.jobs, self.models.features)
            traces = session.traces
        return [self.pipeline.decode(z).clamp(-1, 1) for z in latents], traces


@dataclass
class Found:
    """What one budget gave: PSNR of each video under even schedules, the policy (also where videos share the steps of
    the batch) and the best schedules that were found."""

    computed_steps: int
    even: list[float]
    policy: list[float]
    shared: list[float]
    static: list[float]
    video: list[float]
    static_schedule: tuple[int, ...]
    video_schedules: list[tuple[int, ...]]


def search(bench, cache, rounds):
    """Return the best schedules of one budget."""
    from opensora_adacache.benchmark.schedule_search import best_per_video, best_static, even_schedule

    n, num_videos, budget = bench.num_steps, len(bench.jobs), cache.budget(bench.num_steps)

    def score(schedules):
        return bench.run(schedules_config(schedules, cache))[0]

    policy, taken = bench.run(replace(cache, decision="sample"))
    even = even_schedule(n, budget)
    static, static_values = best_static(list(dict.fromkeys(taken)), num_videos, n, score, rounds)
    starts = [(static, s) if s > p else (own, p) for s, p, own in zip(static_values, policy, taken, strict=True)]
    schedules, values = best_per_video([one for one, _ in starts], [two for _, two in starts], n, score, rounds)
    print(f"{budget} of {n}: {fmean(policy):.2f} {fmean(static_values):.2f} {fmean(values):.2f} dB", file=sys.stderr)
    shared = bench.run(replace(cache, decision="sample", budget_over="batch"))[0]
    return Found(budget, score([even] * num_videos), policy, shared, static_values, values, static, schedules)


def schedules_config(schedules, cache):
    """Return settings with which each video computes at the steps of its own schedule, and forecasts as the cache."""
    from opensora_adacache.caching.contract import CachePolicy
    from opensora_adacache.caching.forecast.config import PlannedForecastConfig

    class Policy(CachePolicy):
        """A schedule for each group."""

        def decide(self, view):
            return [view.step in schedule for schedule in schedules]

    class Config(PlannedForecastConfig):
        """A schedule for each video."""

        def build(self, num_sampling_steps, groups):
            return Policy(groups)

    return Config(steps=schedules[0], order=cache.order, corrector=cache.corrector, decision="sample")


def table(found, bench):
    """Return the lines of the table, and what they mean."""
    from opensora_adacache.calibration.planning import split_budget

    totals = [{f.computed_steps: -f.video[i] for f in found} for i in range(len(bench.jobs))]
    columns = ("computed steps", "even", "ForecastCache", "its shared budget", "best static", "best per video")
    columns = (*columns, "best split", "share of the static gain", "below the best per video, dB")
    lines = [
        f"{bench.num_steps} steps, {len(bench.jobs)} prompts, PSNR in dB of float frames to the uncached ones.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
    ]
    for one in found:
        split = split_budget(totals, one.computed_steps * len(bench.jobs))
        best_split = fmean(-total[count] for total, count in zip(totals, split, strict=True))
        means = (fmean(v) for v in (one.even, one.policy, one.shared, one.static, one.video))
        even, policy, shared, static, video = means
        share = (policy - even) / (static - even) if static > even else 1.0
        numbers = " | ".join(f"{value:.2f}" for value in (even, policy, shared, static, video, best_split))
        lines.append(f"| {one.computed_steps} | {numbers} | {share:.2f} | {video - policy:.2f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
