"""Bars on a terminal: the videos of a run, and the schedule of the batch that is being denoised, as it grows.

The bars are on stderr. Lines that are printed meanwhile, to stdout or stderr, appear above them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.batches import Batch
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.display import Display, ShowStep
from opensora_adacache.generation.strip import ASCII_LEVELS, LEVELS, strip
from opensora_adacache.generation.time_left import TimeLeft

_LONGEST_NAME = 20
# Columns of the terminal that are left to the schedule beside name, numbers and time.
_BESIDE_STRIP = 50


class TerminalDisplay(Display):
    """The display of a terminal. Bars appear with the first batch, when libraries have ceased to show their own.

    Args:
        config: config of the run.
        console: where to show the bars; stderr by default.

    Attributes:
        is_open: whether the run goes on.
    """

    def __init__(self, config: RunConfig, console: Console | None = None) -> None:
        self.is_open = True
        self._console = console or Console(stderr=True)
        self._time = TimeLeft(_planned(config))
        self._total = self._done = self._begun = 0
        self._begin = self._last = self._in_steps = 0.0
        self._steps: list[float] = []
        self._num_steps = self._num_together = 0
        self._progress: Progress | None = None
        self._bar = TaskID(0)
        self._row: TaskID | None = None

    def say(self, line: str) -> None:
        print(line, flush=True)

    @contextmanager
    def videos(self, total: int, in_workers: bool) -> Iterator[None]:
        self._total = total
        try:
            if in_workers:
                self._start()
            yield
        finally:
            self.close()

    def advance(self, count: int) -> None:
        progress = self._start()
        self._done += count
        progress.update(self._bar, completed=self._done)

    @contextmanager
    def batch(self, batch: Batch) -> Iterator[ShowStep]:
        progress = self._start()
        self._begun += len(batch.wanted)
        self._steps, self._num_steps, self._num_together = [], 0, len(batch.jobs)
        self._time.begin_batch()
        self._last = time.monotonic()
        self._remove_row()
        # It stays while the batch is decoded.
        row = self._row = progress.add_task(_short(batch.name), steps=self._steps, total=None)

        def show(step: DenoisingStep) -> None:
            now = time.monotonic()
            computed = sum(step.computed) / len(step.computed)
            self._steps.append(computed)
            self._num_steps = step.num_steps
            self._in_steps += now - self._last
            self._time.add_step(computed, (now - self._last) / self._num_together)
            self._last = now
            is_last = len(self._steps) == step.num_steps
            progress.update(row, completed=len(self._steps), total=step.num_steps, refresh=is_last)

        try:
            yield show
            self._time.end_batch()
        finally:
            self._num_together = 0

    def close(self) -> None:
        if self._progress is None:
            return
        self.is_open = False
        try:
            self._remove_row()
            self._progress.stop()
        finally:  # a second Ctrl-C comes at any moment
            self._console.show_cursor(True)
            self._progress = None

    def time_left(self) -> float | None:
        """Return the estimated seconds until the last video is finished, or None if nothing is known yet."""
        now = time.monotonic()
        left = self._time.seconds(self._num_steps, self._num_together, self._total - self._begun)
        if left is None:  # workers take the steps
            return (now - self._begin) / self._done * (self._total - self._done) if self._done else None
        # texts, decoding, writing
        beside = max(self._last - self._begin - self._in_steps, 0.0) / self._done if self._done else 0.0
        return max(left + beside * (self._total - self._done) - (now - self._last), 0.0)

    def elapsed(self) -> float:
        """Return the seconds since the bars appeared."""
        return time.monotonic() - self._begin

    def _remove_row(self) -> None:
        if self._progress is not None and self._row is not None:
            self._progress.remove_task(self._row)
        self._row = None

    def _start(self) -> Progress:
        if self._progress is None:
            self._begin = self._last = time.monotonic()
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                _BarOrStrip(self._console),
                _Counts(),
                _Time(self),
                console=self._console,
                # lines for a file or a pipe must not go to the terminal
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar = self._progress.add_task("videos", total=self._total, completed=self._done)
            self._progress.start()
        return self._progress


class _BarOrStrip(BarColumn):
    """The bar of the videos, or the schedule of a batch."""

    def __init__(self, console: Console) -> None:
        super().__init__(bar_width=40)
        self._console = console

    def render(self, task: Task):  # type: ignore[no-untyped-def]
        steps = task.fields.get("steps")
        if steps is None:
            return super().render(task)
        levels = ASCII_LEVELS if self._console.options.ascii_only else LEVELS
        num_steps = int(task.total or 1)
        width = max(self._console.width - _BESIDE_STRIP, 10)
        shown = strip(steps, num_steps, width, levels)
        styles = {levels[0]: "bright_black", levels[-1]: "cyan"}
        text = Text.assemble(*((mark, styles.get(mark, "blue")) for mark in shown))
        return text.append(" " * (min(num_steps, width) - len(shown)))


class _Counts(ProgressColumn):
    """How many are done, and of the steps how many computed."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        text = f"{task.completed:.0f}/{task.total:.0f}"
        steps = task.fields.get("steps")
        return Text(text if steps is None else f"{text}, {sum(map(bool, steps))} computed")


class _Time(ProgressColumn):
    """The time left, or at the end the time it took."""

    def __init__(self, display: TerminalDisplay) -> None:
        super().__init__()
        self._display = display

    def render(self, task: Task) -> Text:
        if "steps" in task.fields:
            return Text("")
        if task.finished or not self._display.is_open:
            return Text(f"{'in' if task.finished else 'after'} {_clock(self._display.elapsed())}")
        left = self._display.time_left()
        return Text("" if left is None else f"{_clock(left)} left")


def _planned(config: RunConfig) -> list[bool] | None:
    """Return which steps of a video compute, if that is known before the run."""
    num_steps = config.num_sampling_steps
    if config.cache is None:
        return [True] * config.num_steps
    fixed = config.cache.fixed_steps(num_steps)
    return None if fixed is None else [step in fixed for step in range(1, num_steps + 1)] * config.num_clips


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _clock(seconds: float) -> str:
    """Return a duration as on a clock.

    >>> _clock(59.6), _clock(3725)
    ('1:00', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
