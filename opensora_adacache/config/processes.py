"""The settings of runs on several devices: processes that make one video together, and workers that make many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opensora_adacache.config.limits import check_counts
from opensora_adacache.errors.family import ConfigError


@dataclass(frozen=True)
class ParallelSettings:
    """The processes that make one video together (docs/guide/parallel.md).

    Attributes:
        sequence: number of devices between which the frames of a video are split.
        guidance: 2 puts the two guidance branches on different devices, which doubles the number of devices.
    """

    sequence: int = 1
    guidance: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "sequence")
        if self.guidance not in (1, 2):
            raise ConfigError(f"guidance must be 1 or 2, the number of devices for its branches, got {self.guidance}")

    @property
    def num_devices(self) -> int:
        """Number of devices that make a video together."""
        return self.sequence * self.guidance


@dataclass(frozen=True)
class ExecutorSettings:
    """Which processes make the videos of a run.

    Attributes:
        type: "local" starts worker processes on this machine; "ray" starts actors in a Ray cluster (extra `ray`).
        workers: number of workers. None is one for each GPU, or a single one without GPUs.
        address: HOST:PORT of an existing Ray cluster. None is that of the environment variable RAY_ADDRESS, or a
            cluster that is started on this machine.
    """

    type: Literal["local", "ray"] = "local"
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_counts(self, "workers")
        if self.address is not None and self.type != "ray":
            raise ConfigError(
                f"address is that of a Ray cluster, but type is {self.type!r}; pass --executor ray or leave it out"
            )
