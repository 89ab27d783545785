"""The section ``executor`` of a config: the workers that make the videos of a run. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opensora_adacache.config.limits import check_counts
from opensora_adacache.errors.family import ConfigError


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
