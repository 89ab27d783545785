"""Runs a training stage within a budget, resumable, with its losses in a CSV file."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opensora_adacache.errors.family import TrainingError


@dataclass(frozen=True)
class Budget:
    """The length of a stage: a number of seconds, or a number of steps for runs that must be exactly reproducible."""

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError(f"expected a budget in seconds or in steps, got {self}")


@dataclass
class Stage:
    """The folder of one training stage: ``NAME.pt`` (last checkpoint) and ``NAME.csv`` (losses).

    Args:
        folder: where both files are written; created if missing.
        name: name of the files.
        budget: when the stage ends.
        parts: contents of a checkpoint: objects with ``state_dict`` and ``load_state_dict``.
        save_seconds: time between checkpoints.
        log_every: steps between rows of the CSV file, unless `log_seconds` pass first.
        log_seconds: longest time between rows.
        stop_after: stop early after this step, with a checkpoint.
        on_save: called after every checkpoint.
    """

    folder: Path
    name: str
    budget: Budget
    parts: dict[str, Any]
    save_seconds: float = 45.0
    log_every: int = 50
    log_seconds: float = 15.0
    stop_after: int | None = None
    on_save: Callable[[], None] | None = None
    step: int = 0
    _before: float = 0.0
    _since: float = field(default_factory=time.monotonic)
    _losses: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / f"{self.name}.pt"
        self.log = self.folder / f"{self.name}.csv"

    @property
    def seconds(self) -> float:
        """Time that the stage has taken so far, including earlier runs."""
        return self._before + time.monotonic() - self._since

    @property
    def fraction(self) -> float:
        """Fraction of the budget that is used, 0 to 1."""
        if self.budget.seconds is not None:
            used, limit = self.seconds, self.budget.seconds
        else:
            used, limit = float(self.step), float(self.budget.steps or 0)
        return min(used / limit, 1.0) if limit else 1.0

    def resume(self, device: torch.device | str = "cpu") -> None:
        """Load the last checkpoint if there is one."""
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=device, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.step, self._before = state["step"], state["seconds"]
        rows = self.log.read_text().splitlines() if self.log.exists() else []
        kept = ["step,seconds,loss", *(row for row in rows[1:] if int(row.split(",")[0]) <= self.step)]
        if kept != rows:
            self.log.write_text("\n".join(kept) + "\n")
        self._since = time.monotonic()

    def __iter__(self) -> Iterator[int]:
        """Yield the steps to do until the budget is used; save in between and at the end.

        The files of a finished stage are only read, because two processes that need it may start at the same time.

        Raises:
            TrainingError: the loss is not a number any more. The last checkpoint is from before.
        """
        saved = logged = time.monotonic()
        finished = self.fraction >= 1 and self.checkpoint.exists()
        while self.fraction < 1 and self.step != self.stop_after:
            yield self.step
            self.step += 1
            if self.step % self.log_every == 0 or time.monotonic() - logged > self.log_seconds:
                self._record()
                logged = time.monotonic()
            if time.monotonic() - saved > self.save_seconds:
                self._record()
                self.save()
                saved = time.monotonic()
        if not finished:
            self._record()
            self.save()
        elif self.on_save:
            self.on_save()

    def note(self, loss: Tensor) -> None:
        """Record the loss of a step; it is read from the device only when a row is written."""
        self._losses.append(loss.detach())

    def _record(self) -> None:
        if not self._losses:
            return
        loss = torch.stack(self._losses).float().mean().item()
        self._losses.clear()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of stage '{self.name}' must be a number, but was {loss} before step {self.step}; "
                f"run the command again to go on from the last checkpoint, or remove '{self.checkpoint}' to begin anew"
            )
        with self.log.open("a") as file:
            file.write(f"{self.step},{self.seconds:.1f},{loss:.6f}\n")
        print(f"{self.name} step {self.step} {self.seconds:.0f} s loss {loss:.5f}", flush=True)

    def save(self) -> None:
        """Write a checkpoint under a temporary name, then rename it."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state | {"step": self.step, "seconds": self.seconds}, temporary)
        os.replace(temporary, self.checkpoint)
        if self.on_save:
            self.on_save()


def learning_rate(peak: float, fraction: float, step: int, warm_up: int, decay_from: float) -> float:
    """Return the learning rate: a rise over `warm_up` steps, the peak, then a linear decay to zero from `decay_from`.

    Args:
        peak: highest rate.
        fraction: fraction of the budget that is used.
        step: number of finished steps.
        warm_up: number of steps of the rise.
        decay_from: fraction of the budget at which the decay begins.

    >>> [round(learning_rate(1.0, f, 100, 10, 0.5), 2) for f in (0.2, 0.75, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return peak * min((step + 1) / warm_up, (1 - fraction) / (1 - decay_from), 1.0)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group, multiplied by its ``share`` (1 by default)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


def descend(loss: Tensor, module: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    """Take one step of each optimizer on a loss; the norm of the gradient is clipped to 1."""
    for parameter in module.parameters():
        parameter.grad = None
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], 1.0)
    for optimizer in optimizers:
        optimizer.step()
