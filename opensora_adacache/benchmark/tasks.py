"""The videos of a benchmark: one task for each prompt and seed, made with every setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opensora_adacache.benchmark.config import Comparison
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.description import first_difference, plain
from opensora_adacache.generation.jobs import VideoJob, plan_jobs

if TYPE_CHECKING:
    from opensora_adacache.scenes.spec import Spec

# What a setting may have for itself, and the folder, which nothing is written to. Models are loaded once, and prompts
# and references are read once.
_OF_A_SETTING = (
    "cache",
    "scheduler",
    "fps",
    "save_fps",
    "condition_frame_length",
    "condition_frame_edit",
    "align",
    "save_dir",
)


@dataclass(frozen=True)
class Task:
    """One prompt and seed, and what the video should show if that is known."""

    job: VideoJob
    seed: int
    spec: Spec | None

    @property
    def name(self) -> str:
        """Stem of its file names."""
        return f"{self.job.index:04d}-{self.job.sample}"

    @property
    def key(self) -> tuple[int, int]:
        """Prompt number and seed, as in `ResultRow.video_key`."""
        return self.job.index, self.seed


def plan_tasks(comparison: Comparison, limit: int | None = None) -> tuple[Comparison, list[Task]]:
    """Return the tasks of each setting, and the benchmark with their prompts in all its run configs.

    Raises:
        ValueError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    specs: list[Spec | None] = []
    if comparison.prompts.heldout:
        from opensora_adacache.scenes.prompts import heldout_prompts

        drawn = heldout_prompts(comparison.prompts.heldout, comparison.prompts.seed)
        texts, specs = [text for text, _ in drawn], [spec for _, spec in drawn]
    else:
        texts = list(comparison.run.prompts)
    texts = texts[:limit]
    changes: dict[str, Any] = {"prompts": tuple(texts), "num_sample": comparison.num_seeds, "overwrite": True}
    changes |= {"batch_size": 1, "prompt_as_path": False, "start_index": 0}
    run = replace(comparison.run, **changes)
    settings = tuple(replace(s, config=replace(s.config, **changes)) for s in comparison.settings)
    jobs = plan_jobs(run)
    tasks = [Task(job, job.loop_seed(0), specs[job.index] if specs else None) for job in jobs]
    return replace(comparison, run=run, settings=settings), tasks


def batched(tasks: Sequence[Task], size: int) -> list[tuple[Task, ...]]:
    """Return the tasks in batches of at most `size`, which are the same in every run of a benchmark."""
    return [tuple(tasks[first : first + size]) for first in range(0, len(tasks), size)]


def check_pairs(comparison: Comparison) -> None:
    """Raise ValueError if a setting has what it cannot have for itself, or videos that no baseline video pairs with."""
    for setting in comparison.settings:
        for name in ("image_size", "num_frames", "loop", "seed"):
            ours, theirs = getattr(setting.config, name, None), getattr(comparison.run, name, None)
            if ours != theirs:
                raise ValueError(
                    f"setting '{setting.name}' has {name} {ours}, but the baseline has {theirs}: compared "
                    "videos need the same size and seed; move the setting to a benchmark of its own"
                )
        difference = first_difference(_shared(comparison.run), _shared(setting.config))
        if difference:
            raise ValueError(
                f"setting '{setting.name}' has another {difference.partition(' was ')[0]} than the baseline, but all "
                "settings share its models, texts and references: set it in the overrides of the whole benchmark, or "
                "move the setting to a benchmark of its own"
            )


def _shared(config: RunConfig) -> dict[str, Any]:
    """Return what all settings of a benchmark have in common."""
    shared = {key: value for key, value in plain(config).items() if key not in _OF_A_SETTING}
    if "pipeline" in shared:
        del shared["pipeline"]["call"]
    return shared
