"""Make the rows of a benchmark in any process: here or in the workers of an executor."""

from __future__ import annotations

import contextlib
import platform
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.benchmark.config import Comparison, Setting
from opensora_adacache.benchmark.description import DESCRIPTION
from opensora_adacache.benchmark.oracle_plans import measure_costs
from opensora_adacache.benchmark.results import RESULTS, ResultRow, RowKey, read_results
from opensora_adacache.benchmark.tasks import Task
from opensora_adacache.benchmark.worker import VideoMaker
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.costs.run import fixed_steps
from opensora_adacache.errors.family import MissingFileError
from opensora_adacache.errors.shown import counted
from opensora_adacache.metrics.quality import load_metrics
from opensora_adacache.parallel.executor import Maker

if TYPE_CHECKING:
    from opensora_adacache.generation.clip import RunModels


@dataclass(frozen=True)
class MissingRows:
    """The rows of a batch of tasks that are to be made, setting by setting. The baseline is always made first."""

    tasks: tuple[Task, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class RowReport:
    """A row, and the machine that made it."""

    row: ResultRow
    machine: str


@dataclass(frozen=True)
class RowMaking:
    """Makes rows (see `parallel.executor.MakerFactory`).

    Attributes:
        comparison: benchmark with its prompts.
        tasks: all its tasks.
        folder: output folder of the benchmark.
    """

    comparison: Comparison
    tasks: tuple[Task, ...]
    folder: Path

    @contextlib.contextmanager
    def __call__(self, items: Sequence[MissingRows], gpu: int) -> Iterator[Maker[MissingRows, RowReport]]:
        """Load the models and metrics."""
        models = _load(self.comparison.run, self.tasks, self.folder, gpu)
        measures, _ = load_metrics(self.comparison.metrics)
        maker = VideoMaker(self.comparison, self.tasks, models, measures, self.folder)
        machine = describe_machine(gpu)

        def make(items: Iterable[MissingRows]) -> Iterator[RowReport]:
            for item in items:
                for row in maker.rows(item.tasks, item.names, self._done()):
                    yield RowReport(row, machine)

        yield make

    def _done(self) -> set[RowKey]:
        """Return the rows that are there: those of earlier runs, and of workers that died."""
        path = self.folder / RESULTS
        return {row.key for row in read_results(path)} if path.exists() else set()


@dataclass(frozen=True)
class CostMaking:
    """Measures for oracles what it costs each video to skip steps, and writes it to the folder of the benchmark.

    Attributes:
        run: run config of the baseline.
        tasks: all tasks.
        folder: output folder of the benchmark.
    """

    run: RunConfig
    tasks: tuple[Task, ...]
    folder: Path

    @contextlib.contextmanager
    def __call__(self, items: Sequence[Task], gpu: int) -> Iterator[Maker[Task, str]]:
        """Load the models."""
        models = _load(self.run, self.tasks, self.folder, gpu)

        def measure(tasks: Iterable[Task]) -> Iterator[str]:
            for task in tasks:
                measure_costs(task, self.run, models, self.folder)
                yield task.name

        yield measure


def _load(run: RunConfig, tasks: Sequence[Task], folder: Path, gpu: int) -> RunModels:
    import torch

    from opensora_adacache.generation.models import load_run

    if not (folder / DESCRIPTION).exists():
        raise MissingFileError(
            f"'{folder}' on {socket.gethostname()} is not the folder of this benchmark; all machines need a file "
            "system that they share: choose an --out on it"
        )
    device = None
    if torch.cuda.is_available():
        device = torch.device("cuda", gpu)
        torch.cuda.set_device(device)
    return load_run(run, [task.job for task in tasks], device)


def describe_machine(gpu: int = 0) -> str:
    """Return the device and the number of CPU threads of this process."""
    import torch

    device = torch.cuda.get_device_name(gpu) if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return f"{device}, {counted(torch.get_num_threads(), 'thread')}"


def expected_steps(config: RunConfig, setting: Setting | None = None) -> float:
    """Return how many steps a setting is expected to compute: as its config says, by its schedule, or all of them."""
    said = None if setting is None else setting.computed_steps or setting.budget
    if said is not None:
        return said
    planned = fixed_steps(config)
    return config.num_sampling_steps if planned is None else planned
