"""Run a benchmark: every setting on the same prompts and seeds, one row per video. Interrupted runs can be resumed.

The output folder holds ``comparison.json`` (what is compared, on which machine), ``results.jsonl`` (one row per video),
``videos/SETTING/…mp4``, ``costs/…`` (with an oracle: what skipping steps would cost each video) and the report.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.benchmark.config import BASELINE, Comparison
from opensora_adacache.benchmark.description import (
    ComparisonRecord,
    SettingRecord,
    read_comparison,
    write_comparison,
)
from opensora_adacache.benchmark.paper import find_table
from opensora_adacache.benchmark.results import append_result, read_results
from opensora_adacache.benchmark.tasks import check_pairs, plan_tasks
from opensora_adacache.benchmark.worker import VideoMaker, policy_name
from opensora_adacache.errors.shown import counted
from opensora_adacache.generation.description import first_difference, plain
from opensora_adacache.metrics.quality import check_metrics, load_metrics

if TYPE_CHECKING:
    from opensora_adacache.metrics.quality import Metric

RESULTS, DESCRIPTION = "results.jsonl", "comparison.json"


class ComparisonRun:
    """A benchmark in its output folder.

    Args:
        comparison: what to compare.
        folder: output folder.
        limit: number of prompts to use, from the first on. None uses all.
        command: command as typed, for the record.

    Raises:
        ValueError: the folder holds a different benchmark.
    """

    def __init__(self, comparison: Comparison, folder: Path, limit: int | None, command: str) -> None:
        check_metrics(comparison.metrics)
        check_pairs(comparison)
        self.comparison, self.tasks = plan_tasks(comparison, limit)
        self.folder = folder
        self.command = command
        self.settings = {BASELINE: self.comparison.run} | {s.name: s.config for s in self.comparison.settings}
        self._check_folder()
        rows = read_results(folder / RESULTS) if (folder / RESULTS).exists() else []
        self.done = {(row.setting, *row.video_key) for row in rows}

    @cached_property
    def metrics(self) -> tuple[dict[str, Metric], dict[str, str]]:
        """The metrics, and for each metric that cannot be computed here, the reason."""
        return load_metrics(self.comparison.metrics)

    @property
    def num_missing(self) -> int:
        """The videos that remain to be made."""
        keys = {(name, task.job.index, task.seed) for name in self.settings for task in self.tasks}
        return len(keys - self.done)

    def run(self, progress: Callable[[], Any] = lambda: None) -> None:
        """Make the missing videos and write each row at once. The first setting to run changes from prompt to prompt.

        Args:
            progress: function to call after each video.
        """
        from opensora_adacache.generation.models import load_run

        write_comparison(self.folder / DESCRIPTION, self.describe())
        if not self.num_missing:
            return
        models = load_run(self.comparison.run, [task.job for task in self.tasks])
        maker = VideoMaker(self.comparison, self.tasks, models, self.metrics[0], self.folder)
        for number, task in enumerate(self.tasks):
            missing = [n for n in self.settings if (n, task.job.index, task.seed) not in self.done]
            turn = number % max(len(missing), 1)
            for row in maker.rows(task, missing[turn:] + missing[:turn]):
                append_result(self.folder / RESULTS, row)
                self.done.add((row.setting, *row.video_key))
                progress()

    def describe(self) -> ComparisonRecord:
        """Return the content of ``comparison.json``."""
        import torch

        comparison = self.comparison
        table = find_table(comparison.paper) if comparison.paper else None
        settings = [SettingRecord(BASELINE, BASELINE, BASELINE, paper=BASELINE)]
        settings += [
            SettingRecord(s.name, s.title, policy_name(s), s.paper, oracle=s.oracle is not None)
            for s in comparison.settings
        ]
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
        threads = torch.get_num_threads()
        return ComparisonRecord(
            config=str(comparison.path),
            command=self.command,
            machine=f"{device}, {counted(threads, 'thread')}",
            date=str(date.today()),
            torch=torch.__version__,
            num_prompts=len(comparison.run.prompts),
            num_seeds=comparison.num_seeds,
            title=comparison.title,
            settings=tuple(settings),
            paper=comparison.paper,
            paper_rows=tuple(table.rows.values()) if table else (),
            paper_source=table.source if table else "",
            lpips_missing=self.metrics[1].get("lpips") if "lpips" in comparison.metrics else "it was not requested",
            runs={name: plain(asdict(config)) for name, config in self.settings.items()},
        )

    def _check_folder(self) -> None:
        path = self.folder / DESCRIPTION
        if not path.exists():
            return
        try:
            old = read_comparison(path).runs
        except ValueError:
            raise ValueError(f"'{path}' was not written by scripts/compare.py; choose another --out") from None
        for name, config in self.settings.items():
            difference = first_difference(_content(old[name]), _content(plain(asdict(config)))) if name in old else None
            if difference:
                raise ValueError(
                    f"'{self.folder}' holds '{name}' with different settings ({difference}); choose another --out"
                )


def _content(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run config, without the prompts, that the pixels of its videos depend on."""
    left_out = ("path", "prompts", "save_dir", "verbose", "overwrite", "batch_size")
    return {key: value for key, value in run.items() if key not in left_out}
