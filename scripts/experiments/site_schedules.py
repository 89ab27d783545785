"""Measure whether each kind of residual should have its own schedule.

python scripts/experiments/site_schedules.py CONFIG [--limit N]

CONFIG is a benchmark config (configs/scenes/frontier/compare_30.py) with ForecastCache settings that have a budget. For
each budget of K steps, this compares on the same videos: one forecast of the whole stack; a forecast of each residual
(attention, cross attention and MLP of each block) with the same schedule; and separate schedules, where one kind
computes more or fewer steps and the others one fewer or one more, with FLOPs as equal as whole steps allow. All
schedules are those that ForecastCache plans if the errors are as calibrated. The result is a Markdown table, which
--out FILE.md writes.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count

KINDS = {
    "spatial attention": {("s", "attn")},
    "temporal attention": {("t", "attn")},
    "cross attention": {("s", "cross"), ("t", "cross")},
    "MLP": {("s", "mlp"), ("t", "mlp")},
}
FEWEST = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="benchmark config")
    parser.add_argument("--limit", type=count, default=8, help="number of prompts to use (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    return run_command(site_schedules, parser.parse_args(arguments))


def site_schedules(options):
    """Print the table and write it."""
    from opensora_adacache.benchmark.config import load_comparison
    from opensora_adacache.benchmark.table_files import write_study
    from opensora_adacache.benchmark.tasks import plan_tasks

    comparison, tasks = plan_tasks(load_comparison(options.config), options.limit)
    lines = list(table(comparison, [task.job for task in tasks]))
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/site_schedules.py {options.config} --limit {options.limit}"
        write_study(options.out, "Schedules per kind of residual", f"{command} --out {options.out}", lines)


def table(comparison, jobs):
    """Return the lines of the table."""
    from opensora_adacache.benchmark.oracle import Bench, budget_settings
    from opensora_adacache.caching.forecast.config import PlannedForecastConfig
    from opensora_adacache.costs.run import step_flops

    settings, bench = budget_settings(comparison), Bench(comparison.run, jobs)
    sites = step_flops(comparison.run).sites
    total = sum(sites.values())
    shares = {kind: sum(sites[site] for site in members) / total for kind, members in KINDS.items()}
    yield f"{bench.num_steps} steps, {len(jobs)} prompts, PSNR in dB between float frames and the uncached ones."
    yield ""
    columns = [f"{kind}, {share:.0%} of FLOPs" for kind, share in shares.items()]
    yield f"| forecast of | {' | '.join(columns)} | FLOPs to the budget | PSNR |"
    yield "|" + " --- |" * (len(columns) + 3)
    for setting in settings:
        cache = replace(setting.config.cache, corrector=0.0)  # forecasts alone: residuals of blocks have no corrector
        budget = cache.budget(bench.num_steps)
        same = dict.fromkeys(KINDS, budget)
        config = PlannedForecastConfig(steps=plan(cache, bench.num_steps, budget), order=cache.order, decision="sample")
        yield line("stack", same, shares, budget, fmean(bench.run(config)[0]))
        for counts in [same, *variants(shares, budget, bench.num_steps)]:
            schedules = {kind: plan(cache, bench.num_steps, count) for kind, count in counts.items()}
            with forecast_sites(bench.models.transformer, schedules, cache.order):
                yield line("each residual", counts, shares, budget, fmean(bench.run(None)[0]))


def line(name, counts, shares, budget, psnr):
    """Return a line of the table."""
    flops = sum(shares[kind] * count for kind, count in counts.items()) / budget
    return f"| {name} | {' | '.join(map(str, counts.values()))} | {flops:.0%} | {psnr:.2f} |"


def variants(shares, budget, num_steps):
    """Yield the computed steps of each kind, where one has more or fewer and the others compensate."""
    for kind, share in shares.items():
        for change in (-1, 1):
            count = round(budget - change * (1 - share) / share)
            yield dict.fromkeys(shares, budget + change) | {kind: min(max(count, FEWEST), num_steps)}


def plan(cache, num_steps, budget):
    """Return the steps that ForecastCache computes if the errors of its forecasts are as calibrated."""
    from opensora_adacache.caching.forecast.schedule import resample

    growth = resample(cache.growth, num_steps)
    policy = replace(cache, speedup=None, computed_steps=budget).build(num_steps, [[0]])
    steps: list[int] = []
    for step in range(1, num_steps + 1):
        if policy.schedules[0].next_step <= step:
            error = growth[step - 1] * ((step - steps[-1]) / num_steps) ** 2 if steps else None
            policy.observe_forecast({} if error is None else {0: (error**2, 1.0)})
            policy.end_computed_step(step, [True], [])
            steps.append(step)
    return tuple(steps)


@contextmanager
def forecast_sites(model, schedules, order):
    """Compute each residual at the steps of its kind's schedule, and forecast it at the others."""
    from opensora_adacache.adapters.patches import Patches
    from opensora_adacache.adapters.stdit3.sites import METHODS, block_sites
    from opensora_adacache.caching.residuals.measured_forecast import MeasuredForecast
    from opensora_adacache.caching.residuals.store import ResidualStore

    now, patches = {"step": 0, "timestep": None}, Patches()

    def count(original):
        def forward(x, timestep, *args, **kwargs):
            now.update(step=now["step"] + 1, timestep=timestep)
            return original(x, timestep, *args, **kwargs)

        return forward

    def cached(schedule):
        kept = []

        def wrapper(original):
            def residual(x, inputs):
                kept[:] = kept or [MeasuredForecast(ResidualStore(), order, len(x), x.device)]
                if now["step"] not in schedule:
                    return kept[0].add_to(x.new_zeros(()).expand_as(x), None, now["step"], now["timestep"])
                out = original(x, inputs)
                kept[0].update(out, x.new_zeros(()).expand_as(x), None, now["step"], now["timestep"])
                sums = kept[0].take_measurements()
                kept[0].end_computed_step(
                    list(range(len(x))), [] if sums is None else sums.tolist(), now["timestep"][0].item()
                )
                return out

            return residual

        return wrapper

    patches.wrap(model, "forward", count)
    for block, site in block_sites(model):
        kind = next(kind for kind, members in KINDS.items() if (site.axis, site.kind) in members)
        patches.wrap(block, METHODS[site.kind], cached(frozenset(schedules[kind])))
    try:
        yield
    finally:
        patches.restore()


if __name__ == "__main__":
    sys.exit(main())
