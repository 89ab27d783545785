"""A finished clip, and what makes one: the models of a run, loaded once, with the cache of a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.jobs import VideoJob

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opensora_adacache.caching.trace import StepRecord


@dataclass(frozen=True)
class Clip:
    """A video before it is written.

    Attributes:
        frames: frames [3, F, H, W] in -1..1, on the CPU; none in a process that does not lead its team.
        traces: the traces of its runs, one after the other: of each loop, or of each transformer of a pipeline and each
            guidance branch with a session of its own. Empty without a cache.
        denoising_seconds: seconds in the denoising loop, for the whole batch.
        decoding_seconds: seconds in the decoder of the VAE.
        peak_cache_bytes: peak size of the cached residuals of the whole batch.
        num_steps: number of steps of all its runs, computed or reused.
        defect: why the video is unusable (values that are NaN or infinite), or None.
        branches: a name for each trace, such as "transformer cond"; empty if the traces are those of loops.
        text_seconds: seconds of encoding the texts, for the whole batch.
    """

    frames: Tensor = field(repr=False)
    traces: list[list[StepRecord]]
    denoising_seconds: float
    decoding_seconds: float
    peak_cache_bytes: int
    num_steps: int
    defect: str | None = None
    branches: tuple[str, ...] = ()
    text_seconds: float = 0.0


class ClipMaker(Protocol):
    """The models of a run with its settings. In a ``with`` block, the cache is attached once."""

    def __enter__(self) -> ClipMaker: ...

    def __exit__(self, *_: object) -> None: ...

    def warm_up(self, jobs: Sequence[VideoJob]) -> None:
        """Denoise a batch once and throw it away: the first run selects kernels and fills memory pools."""

    def denoise(
        self, jobs: Sequence[VideoJob], callback: Callable[[DenoisingStep], object] | None = None
    ) -> Callable[[], list[Clip]]:
        """Denoise a batch, and return a function that decodes it and returns its clips.

        Args:
            jobs: jobs of one run.
            callback: function to call after each denoising step. An exception that it raises ends the run.
        """


class RunModels(Protocol):
    """Models on their device, which make the videos of any run with the same ``from_pretrained``.

    Attributes:
        device: device of the models.
        loading_seconds: seconds spent reading the weights.
        encoding_seconds: seconds spent encoding texts while the models were loaded.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def loading_seconds(self) -> float: ...

    @property
    def encoding_seconds(self) -> float: ...

    def maker(self, config: RunConfig) -> ClipMaker:
        """Return a maker with these models for a run, which may have a different cache and prompts."""

    def warnings_of(self, job: VideoJob) -> list[str]:
        """Return lines about what the models will not read of the texts of a job."""
