"""Run a benchmark: every setting on the same prompts and seeds, one row per video. Interrupted runs can be resumed.

The output folder holds ``comparison.json`` (what is compared, on which machine), ``results.jsonl`` (one row per video),
``videos/SETTING/…mp4``, ``costs/…`` (with an oracle: what skipping steps would cost each video) and the report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from opensora_adacache.benchmark.budgets import further_settings, scaled_setting
from opensora_adacache.benchmark.config import Comparison
from opensora_adacache.benchmark.description import (
    BASELINE,
    DESCRIPTION,
    ComparisonRecord,
    SettingRecord,
    read_comparison,
    write_comparison,
)
from opensora_adacache.benchmark.making import (
    CostMaking,
    MissingRows,
    RowMaking,
    RowReport,
    describe_machine,
    expected_steps,
)
from opensora_adacache.benchmark.measured import check_measured
from opensora_adacache.benchmark.oracle_plans import costs_path, plans_videos
from opensora_adacache.benchmark.paper import find_table
from opensora_adacache.benchmark.remaking import forget, matching_settings
from opensora_adacache.benchmark.results import RESULTS, append_result, read_results
from opensora_adacache.benchmark.tasks import Task, batched, check_pairs, plan_tasks
from opensora_adacache.benchmark.worker import policy_name
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import VideoError
from opensora_adacache.errors.shown import counted, shown
from opensora_adacache.generation.description import first_difference, plain
from opensora_adacache.generation.executors import choose_executor
from opensora_adacache.generation.lock import FolderLock
from opensora_adacache.metrics.quality import check_metrics, load_metrics
from opensora_adacache.parallel import ProcessGroup
from opensora_adacache.parallel.executor import Executor, InProcess, Lost, Work


class ComparisonRun:
    """A benchmark in its output folder.

    Args:
        comparison: what to compare.
        folder: output folder.
        limit: number of prompts to use, from the first on. None uses all.
        command: command as typed, for the record.
        remake: names of settings whose videos are made again, in which ``*`` and ``?`` stand for any characters.

    Attributes:
        remade: the settings that these names stand for. Their rows stay until `run` begins.
        others: settings with rows in the folder that the config does not have.
        batch_size_before: number of videos that were made at once before, or None for a new folder.

    Raises:
        FileNotFoundError: there are no rows to make again.
        ValueError: the folder holds a different benchmark, or the config and the folder have no such setting.
    """

    def __init__(
        self, comparison: Comparison, folder: Path, limit: int | None, command: str, remake: Sequence[str] = ()
    ) -> None:
        check_metrics(comparison.metrics)
        check_pairs(comparison)
        self.comparison, self.tasks = plan_tasks(comparison, limit)
        self.folder = folder
        self.command = command
        self.remade = self._find_remade(remake) if remake else []
        self.others: list[SettingRecord] = []
        self.batch_size_before: int | None = None
        self._runs_of_others: dict[str, Any] = {}
        self._machines: dict[int, str] = {}  # of each worker
        self._check_folder()
        self._read_rows()

    @property
    def settings(self) -> dict[str, RunConfig]:
        """The run config of each setting by its name, the baseline first."""
        return {BASELINE: self.comparison.run} | {s.name: s.config for s in self.comparison.settings}

    @cached_property
    def unavailable(self) -> dict[str, str]:
        """For each metric that cannot be computed here, the reason."""
        return load_metrics(self.comparison.metrics)[1]

    @property
    def num_missing(self) -> int:
        """The videos that remain to be made."""
        keys = {(name, *task.key) for name in self.settings for task in self.tasks}
        return len(keys - self.done)

    @property
    def num_missing_steps(self) -> float:
        """The steps that the missing videos are expected to compute, baseline videos that are made again included."""
        return sum(work.cost * len(work.item.tasks) for work in self._missing_rows())

    def run(
        self,
        progress: Callable[[], Any] = lambda: None,
        say: Callable[[str], object] = lambda line: None,
        warn: Callable[[str], object] = lambda line: None,
    ) -> None:
        """Make the missing videos and write each row at once. The first setting to run changes from batch to batch.

        Settings with a budget follow that are held to it, once it is known how many steps they compute (`budgets`).

        Args:
            progress: function to call after each video.
            say: function that is called with one line for each worker that is ready.
            warn: function that is called with one line for each worker that dies.

        Raises:
            FolderInUseError: another process makes rows in the folder.
            VideoError: rows were not made, because workers died. The others are written.
        """
        executor = choose_executor(self.comparison.run.executor, ProcessGroup(), 1, say, warn)
        with FolderLock(self.folder, "--out") as lock:
            lock.acquire()
            if self.remade:
                forget(self.folder, self.remade)
                self.remade = []
            self._check_folder()  # another process may have made some in the meantime
            self._read_rows()
            write_comparison(self.folder / DESCRIPTION, self.describe())
            while self.num_missing:
                self._make_missing(executor, progress)
                self._hold()
                write_comparison(self.folder / DESCRIPTION, self.describe())

    def _make_missing(self, executor: Executor, progress: Callable[[], Any]) -> None:
        tasks, lost = tuple(self.tasks), list[Lost[Any]]()
        if not isinstance(executor, InProcess):  # a single process measures them when it needs them
            costs = CostMaking(self.comparison.run, tasks, self.folder)
            with contextlib.closing(executor.run(self._missing_costs(), costs)) as outcomes:
                lost += [outcome for outcome in outcomes if isinstance(outcome, Lost)]
        if not lost:
            rows = RowMaking(self.comparison, tasks, self.folder)
            with contextlib.closing(executor.run(self._missing_rows(), rows)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome, Lost):
                        lost.append(outcome)
                    else:
                        self._take(outcome.worker, outcome.result)
                        progress()
        if lost:
            raise VideoError(
                f"{counted(self.num_missing, 'video')} could not be made, such as those of '{lost[0].work.name}' "
                f"({lost[0].reason}); run the same command again, with fewer --workers if the memory is full"
            )

    def _take(self, worker: int, report: RowReport) -> None:
        self._machines.setdefault(worker, report.machine)
        append_result(self.folder / RESULTS, report.row)
        self.rows.append(report.row)
        self.done.add(report.row.key)

    def _read_rows(self) -> None:
        path = self.folder / RESULTS
        rows = read_results(path) if path.exists() else []
        self.rows = [row for row in rows if row.setting not in self.remade]
        self.done = {row.key for row in self.rows}
        self._check_prompts()
        check_measured(self.rows, self.comparison, self.folder)
        self._hold()

    def _check_prompts(self) -> None:
        prompts = {task.key: task.job.prompt for task in self.tasks}
        for row in self.rows:
            prompt = prompts.get(row.video_key, row.prompt)
            if row.prompt != prompt:
                raise ValueError(
                    f"'{self.folder}' holds videos of another prompt {row.index} ({shown(row.prompt)}, and "
                    f"{shown(prompt)} now); choose another --out"
                )

    def _hold(self) -> None:
        """Add the settings that hold others to their budgets, as far as the rows tell which ones are needed."""
        keys = {task.key for task in self.tasks}
        added = further_settings(self.comparison.settings, self.rows, keys)
        while added:
            self.comparison = replace(self.comparison, settings=(*self.comparison.settings, *added))
            added = further_settings(self.comparison.settings, self.rows, keys)

    def _missing_costs(self) -> list[Work[Task]]:
        """Return what to measure before oracles can plan."""
        if not any(plans_videos(setting) for setting in self.comparison.settings):
            return []
        return [Work(task.name, 1, task) for task in self.tasks if not costs_path(self.folder, task).exists()]

    def _missing_rows(self) -> list[Work[MissingRows]]:
        """Return the rows to make: for each batch, the settings and how many steps they are expected to compute."""
        steps = {BASELINE: expected_steps(self.comparison.run)}
        steps |= {s.name: expected_steps(s.config, s) for s in self.comparison.settings}
        work = []
        for number, batch in enumerate(batched(self.tasks, self.comparison.batch_size)):
            missing = [n for n in self.settings if any((n, *task.key) not in self.done for task in batch)]
            if missing:
                turn = number % len(missing)
                cost = sum(steps[name] for name in {BASELINE, *missing})
                work.append(Work(batch[0].name, cost, MissingRows(batch, (*missing[turn:], *missing[:turn]))))
        return work

    def describe(self) -> ComparisonRecord:
        """Return the content of ``comparison.json``."""
        import torch

        comparison = self.comparison
        table = find_table(comparison.paper) if comparison.paper else None
        settings = [SettingRecord(BASELINE, BASELINE, BASELINE, paper=BASELINE)]
        settings += [
            SettingRecord(
                s.name, s.title, policy_name(s), s.paper, s.oracle is not None, s.budget, s.held_for, s.factor
            )
            for s in comparison.settings
        ]
        settings += self.others
        return ComparisonRecord(
            config=str(comparison.path),
            command=self.command,
            machine=self._machine,
            date=str(date.today()),
            torch=torch.__version__,
            num_prompts=len({task.job.index for task in self.tasks} | {row.index for row in self.rows}),
            num_seeds=comparison.num_seeds,
            title=comparison.title,
            settings=tuple(settings),
            paper=comparison.paper,
            paper_rows=tuple(table.rows.values()) if table else (),
            paper_source=table.source if table else "",
            lpips_missing=self.unavailable.get("lpips") if "lpips" in comparison.metrics else "it was not requested",
            runs={name: plain(asdict(config)) for name, config in self.settings.items()} | self._runs_of_others,
            prompt_seed=comparison.prompts.seed if comparison.prompts.heldout else None,
            batch_size=comparison.batch_size,
            share_steps=comparison.share_steps,
        )

    @property
    def _machine(self) -> str:
        """The machines that made rows, and how many workers if there were several."""
        names = "; ".join(sorted(set(self._machines.values())) or [describe_machine()])
        return f"{names}, {len(self._machines)} workers" if len(self._machines) > 1 else names

    def _find_remade(self, patterns: Sequence[str]) -> list[str]:
        record, mine = read_comparison(self.folder / DESCRIPTION), set(self.settings)
        return matching_settings([one for one in record.settings if (one.held_for or one.name) in mine], patterns)

    def _check_folder(self) -> None:
        path = self.folder / DESCRIPTION
        if not path.exists():
            return
        try:
            record = read_comparison(path)
        except ValueError:
            raise ValueError(f"'{path}' was not written by opensora-adacache compare; choose another --out") from None
        seed, old = self.comparison.prompts.seed, record.runs
        if record.prompt_seed is not None and record.prompt_seed != seed:
            raise ValueError(
                f"'{self.folder}' holds videos of prompts drawn with seed {record.prompt_seed}, not {seed}; choose "
                "another --out"
            )
        self.batch_size_before = record.batch_size
        shared = self.comparison.share_steps
        if record.share_steps not in (None, shared):
            raise ValueError(
                f"'{self.folder}' holds videos made with share_steps={record.share_steps}, and it is {shared} now; "
                "latencies would not compare: choose another --out"
            )
        kept = [one for one in record.settings if one.name not in self.remade]
        # thresholds that were scaled in an earlier run
        bases = {setting.name: setting for setting in self.comparison.settings}
        again = [
            scaled_setting(bases[one.held_for], one.factor)
            for one in kept
            if one.held_for in bases and one.name not in bases
        ]
        self.comparison = replace(self.comparison, settings=(*self.comparison.settings, *again))
        self.others = [one for one in kept if one.name not in self.settings]
        self._runs_of_others = {one.name: old[one.name] for one in self.others if one.name in old}
        for name, config in self.settings.items():
            known = name in old and name not in self.remade
            difference = first_difference(_content(old[name]), _content(plain(asdict(config)))) if known else None
            if difference:
                raise ValueError(
                    f"'{self.folder}' holds '{name}' with different settings ({difference}); choose another --out"
                    + ("" if name == BASELINE else f", or pass --remake {name}")
                )


def _content(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run config, without the prompts, that the pixels of its videos depend on."""
    left_out = ("path", "prompts", "save_dir", "verbose", "overwrite", "batch_size", "executor")
    return {key: value for key, value in run.items() if key not in left_out}
