"""Compare videos that a team of processes makes together with those of one process; started by test_split.

Each process first makes a video alone, then with its team, and prints one line per case: the largest difference, both
schedules, and what was sent at each step.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import opensora_adacache
from opensora_adacache import AdaCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.adapters.stdit3.split import split_stdit3
from opensora_adacache.benchmark.reference_vectors import reference_model
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.models import STDiT3
from opensora_adacache.parallel import process_group
from opensora_adacache.parallel.team import form_team
from opensora_adacache.schedulers import RFLOW

DATA = Path(__file__).parents[1] / "data"
BUNDLED = Path(opensora_adacache.__file__).parent / "scenes" / "weights" / "transformer"


class Traffic(TorchDispatchMode):
    """Records the collectives of this process: their names and the bytes that leave it."""

    def __init__(self, team) -> None:
        super().__init__()
        self.team = team
        self.sent: list[tuple[str, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0] if function.namespace == "c10d" else ""
        if name == "alltoall_base_":
            sizes = args[4]
            kept = sizes[self.team.part]
            self.sent.append(("exchange", (sum(sizes) - kept) * args[1].element_size()))
        elif name == "_allgather_base_":
            self.sent.append(("gather", args[1].nbytes * (self.team.size - 1)))
        elif name:
            self.sent.append((name, 0))
        return function(*args, **(kwargs or {}))


class Text:
    """Text features with some padding, others for each prompt."""

    def __init__(self, model) -> None:
        self.model, self.num_tokens = model, model.config.model_max_length

    def encode(self, prompts):
        generator = torch.Generator().manual_seed(1)
        y = torch.randn(len(prompts), 1, self.num_tokens, self.model.config.caption_channels, generator=generator)
        mask = torch.arange(self.num_tokens) < torch.tensor([[7 + 3 * (i % 2)] for i in range(len(prompts))])
        return {"y": y, "mask": mask.long()}

    def null(self, n):
        return self.model.y_embedder.y_embedding[None, None].expand(n, 1, -1, -1)


def sampler_of(steps: int, num_videos: int, size: tuple[int, int, int], frame_mask: list[float] | None = None):
    """Return a function that makes videos of latents (T, H, W), and calls back after each step."""

    def sample(model, callback=None):
        z = torch.randn(num_videos, 4, *size, generator=torch.Generator().manual_seed(3))
        conditions = {"height": 8.0 * size[1], "width": 8.0 * size[2], "fps": 8.0}
        conditions = {name: torch.full((num_videos,), value) for name, value in conditions.items()}
        return RFLOW(steps, cfg_scale=4.0, use_timestep_transform=False).sample(
            model,
            Text(model),
            z,
            ["prompt"] * num_videos,
            "cpu",
            conditions,
            mask=None if frame_mask is None else torch.tensor([frame_mask] * num_videos),
            generator=[torch.Generator().manual_seed(i) for i in range(num_videos)],
            callback=callback,
        )

    return sample


def recorded(name: str) -> tuple[Callable, AdaCacheConfig | None, int]:
    """Return a recorded run of the reference implementation: how to repeat it, its cache and its steps."""
    tests = runpy.run_path(str(DATA.parent / "test_adapters" / "test_stdit3.py"))
    run = tests["RUNS"][name]

    def sample(model, callback=None):
        return tests["sample"](model, name)

    return sample, tests["config_of"](name) if run["cache"] else None, run["steps"]


def compare(model, team, case: str, sample: Callable, config, steps: int) -> None:
    """Make the videos of a case alone and together, and print how they compare."""
    alone, schedules_alone, _ = make(model, team, sample, config, steps)
    undo = split_stdit3(model, team)
    try:
        together, schedules, sent = make(model, team, sample, config, steps)
    finally:
        undo()
    difference = float((alone - together).abs().max() / alone.abs().max().clamp(min=1))
    line = {"case": case, "difference": difference, "alone": schedules_alone, "together": schedules, "sent": sent}
    print(json.dumps(line), flush=True)


def make(model, team, sample: Callable, config, steps: int):
    """Return latents, the computed steps of each trace, and the collectives of each step."""
    sent = []
    with Traffic(team) as traffic:

        def note(step):
            sent.append(traffic.sent)
            traffic.sent = []

        if config is None:
            return sample(model, note), [list(range(1, steps + 1))], sent
        with apply_cache(model, config, steps) as session:
            latents = sample(model, note)
    return latents, [computed_steps(trace) for trace in session.traces], sent


FINE = {0.05: 4, 0.1: 3, 0.2: 2, 1.0: 1}
FEW, ODD, WIDE = (4, 8, 8), (5, 6, 10), (7, 12, 10)
CASES = {
    "plain": (sampler_of(6, 1, ODD), None, 6),
    "adacache": (sampler_of(12, 1, ODD), AdaCacheConfig(FINE), 12),
    "moreg": (sampler_of(12, 1, ODD), AdaCacheConfig(FINE, moreg=MoRegConfig((1, 3), (2, 11), center=0.5)), 12),
    "moreg-s": (
        sampler_of(12, 1, WIDE),
        AdaCacheConfig(FINE, cache_res="s-attn", moreg=MoRegConfig((1, 2), (2, 11), center=0.5)),
        12,
    ),
    "per-video": (sampler_of(12, 3, ODD), AdaCacheConfig(FINE, decision="sample"), 12),
    "block": (sampler_of(12, 3, ODD), AdaCacheConfig(FINE, decision="sample", granularity="block"), 12),
    "forecast": (
        sampler_of(12, 2, ODD),
        ForecastCacheConfig(tolerance=0.01, corrector=0.5, decision="sample"),
        12,
    ),
    "budget": (
        sampler_of(12, 2, FEW),
        ForecastCacheConfig(computed_steps=6, order=2, corrector=0.5, decision="sample", budget_over="batch"),
        12,
    ),
    "fbcache": (sampler_of(12, 2, ODD), FBCacheConfig(0.1, decision="sample"), 12),
    "pab": (sampler_of(12, 1, ODD), PABConfig(), 12),
    "mask": (sampler_of(12, 1, ODD, [0.0, 0.5, 1.0, 1.0, 1.0]), AdaCacheConfig(FINE), 12),
}


def main(sequence: int, guidance: int, names: list[str]) -> None:
    """Run the named cases; "recorded" stands for all recorded runs, and "policies" for every policy.

    With "bundled" first, the model is the bundled one instead of that of the reference vectors.
    """
    cases = dict(CASES)
    model = reference_model(DATA, torch.device("cpu"))
    if names[:1] == ["bundled"]:
        model, names = STDiT3.from_pretrained(BUNDLED, torch.float32), names[1:]
    if "recorded" in names:
        runs = json.loads((DATA / "sampling_runs.json").read_text())
        cases = {f"recorded {name}": recorded(name) for name in runs}
    elif "policies" in names:
        settings = runpy.run_path(str(DATA.parent / "test_adapters" / "conftest.py"))["SETTINGS"]
        cases = {f"policy {name}": (sampler_of(12, 2, ODD), pair[1], 12) for name, pair in settings.items()}
    elif names:
        cases = {name: CASES[name] for name in names}
    with process_group():
        team = form_team(sequence, guidance)
        for name, case in cases.items():
            try:
                compare(model, team, name, *case)
            except ValueError as error:
                print(json.dumps({"case": name, "refused": str(error)}), flush=True)


if __name__ == "__main__":
    assert "RANK" in os.environ
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
