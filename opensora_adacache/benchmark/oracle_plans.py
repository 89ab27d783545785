"""Plan the schedules of oracles from uncached runs of the same videos."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.benchmark.config import Setting
from opensora_adacache.benchmark.tasks import Task
from opensora_adacache.calibration.planning import plan_least_total, split_budget
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.costs.run import step_lengths
from opensora_adacache.errors.family import RecordError
from opensora_adacache.media.files import write_file

if TYPE_CHECKING:
    from opensora_adacache.generation.clip import RunModels

# The longest interval between computed steps in an oracle's schedule.
_LONGEST_GAP = 12


def plan_oracles(
    settings: Sequence[Setting], tasks: Sequence[Task], run: RunConfig, models: RunModels, folder: Path
) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return (setting, task) → computed steps, for the settings that are oracles and plan each video.

    Args:
        settings: settings of the benchmark.
        tasks: the videos.
        run: run config of the baseline.
        models: loaded models.
        folder: folder of the benchmark. It keeps the measured costs of skipping steps, so each video is measured once.
    """
    oracles = [setting for setting in settings if plans_videos(setting)]
    if not oracles:
        return {}
    n, plans = run.num_sampling_steps, {}
    costs = [measure_costs(task, run, models, folder) for task in tasks]
    for setting in oracles:
        budget = setting.computed_steps or n  # the config ensures that it is given
        counts = [round(budget)] * len(costs)
        if setting.oracle == "budget":
            counts = split_budget([_least_costs(c, n) for c in costs], round(budget * len(costs)))
        for task, cost, count in zip(tasks, costs, counts, strict=True):
            plans[setting.name, task.name] = tuple(plan_least_total(cost, n, count))
    return plans


def costs_path(folder: Path, task: Task) -> Path:
    """Return the file in the folder of a benchmark that keeps the costs of a task."""
    return folder / "costs" / f"{task.name}.json"


def plans_videos(setting: Setting) -> bool:
    """Return whether a setting is an oracle that plans each video, for which costs are measured."""
    return setting.oracle in ("video", "budget")


def measure_costs(task: Task, run: RunConfig, models: RunModels, folder: Path) -> dict[tuple[int, int], float]:
    """Return what it costs this video to reuse a residual over each interval, read from its file or measured.

    Args:
        task: the video.
        run: run config of the baseline.
        models: loaded models.
        folder: folder of the benchmark.

    Raises:
        ValueError: the models are not those of Open-Sora.
    """
    from opensora_adacache.generation.loading import LoadedModels

    if not (isinstance(run, OpenSoraConfig) and isinstance(models, LoadedModels)):
        raise ValueError(
            "an oracle that plans each video needs Open-Sora's models; use oracle='static' with a pipeline"
        )
    from opensora_adacache.adapters.recorder import record_stack
    from opensora_adacache.calibration.step_costs import StepMeasurements, reuse_costs

    path = costs_path(folder, task)
    if path.exists():
        return _read_costs(path)
    measured = StepMeasurements(max_gap=_LONGEST_GAP, forecasts=False)
    with record_stack(models.transformer, measured.observe):
        models.pipeline(run).denoise([task.job], models.features)
    costs = reuse_costs(measured, step_lengths(run))
    write_file(path, json.dumps([[i, j, cost] for (i, j), cost in costs.items()]).encode())
    return costs


def _read_costs(path: Path) -> dict[tuple[int, int], float]:
    try:
        return {(int(i), int(j)): float(cost) for i, j, cost in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError, RecursionError):
        raise RecordError(
            f"'{path}' holds no costs of reusing residuals; delete it, and they are measured again"
        ) from None


def _least_costs(costs: Mapping[tuple[int, int], float], num_steps: int) -> dict[int, float]:
    """Return K → cost of the best schedule with K computed steps, for every K that the longest interval allows."""
    fewest = math.ceil((num_steps - 1) / _LONGEST_GAP) + 1
    plans = {k: plan_least_total(costs, num_steps, k) for k in range(fewest, num_steps + 1)}
    return {k: sum(costs.get(pair, 0.0) for pair in zip(plan, plan[1:], strict=False)) for k, plan in plans.items()}
