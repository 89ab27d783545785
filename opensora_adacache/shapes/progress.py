"""Makes a training stage resumable: checkpoints of the whole state, and losses in a CSV file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Progress:
    """The folder of one training stage: ``STAGE.pt`` (last checkpoint) and ``STAGE.csv`` (losses).

    Args:
        folder: where both files are written; created if missing.
        stage: name of the files.
        parts: contents of a checkpoint: objects with ``state_dict`` and ``load_state_dict``.
    """

    def __init__(self, folder: Path, stage: str, **parts: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / f"{stage}.pt"
        self.log = folder / f"{stage}.csv"
        self.parts = parts
        self.step = 0
        self.seconds = 0.0
        self._mean_loss = 0.0
        self._since = time.monotonic()

    def resume(self) -> int:
        """Load the last checkpoint if there is one; return the number of finished steps."""
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.step, self.seconds = state["step"], state["seconds"]
        rows = self.log.read_text().splitlines()[1:] if self.log.exists() else []
        kept = [row for row in rows if int(row.split(",")[0]) <= self.step]
        self.log.write_text("\n".join(["step,seconds,loss", *kept]) + "\n")
        self._since = time.monotonic()
        return self.step

    def after(self, step: int, loss: float, save_every: int, last: int) -> None:
        """Record a finished step: log the mean loss every 50 steps, save every `save_every` steps and at the last."""
        self._mean_loss += (loss - self._mean_loss) / ((step - 1) % 50 + 1)
        if step % 50 == 0:
            self.record(step, self._mean_loss)
        if step % save_every == 0 or step == last:
            self.save(step)

    def record(self, step: int, loss: float) -> None:
        """Append a line to the log and print it."""
        seconds = self.seconds + time.monotonic() - self._since
        with self.log.open("a") as file:
            file.write(f"{step},{seconds:.1f},{loss:.6f}\n")
        print(f"{self.checkpoint.stem} step {step} {seconds:.0f} s loss {loss:.5f}", flush=True)

    def save(self, step: int) -> None:
        """Write a checkpoint under a temporary name, then rename it."""
        seconds = self.seconds + time.monotonic() - self._since
        state = {name: part.state_dict() for name, part in self.parts.items()}
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state | {"step": step, "seconds": seconds}, temporary)
        os.replace(temporary, self.checkpoint)


def descend(loss: Tensor, module: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Take one optimizer and schedule step on a loss; the norm of the gradient is clipped to 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    schedule.step()
