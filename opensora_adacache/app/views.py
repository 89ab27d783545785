"""What a page shows of a pair: immutable, so that a page can read it while a worker goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from opensora_adacache.app.requests import PairRequest
from opensora_adacache.generation.denoising_step import DenoisingStep

BASELINE, CACHED = "baseline", "cached"


@dataclass(frozen=True)
class RunView:
    """One of the two runs of a pair.

    Attributes:
        name: "baseline" or "cached", also the name of its video.
        title: title on the page.
        num_steps: number of denoising steps.
        computed: whether blocks ran, for each step so far.
        distances: what the policy measured at each step so far; None if nothing.
        motions: shaped motion at each step so far; None if nothing was measured.
        preview: the latest preview, a jpeg.
        seconds: seconds of the denoising loop, once the video is finished.
    """

    name: str
    title: str
    num_steps: int
    computed: tuple[bool, ...] = ()
    distances: tuple[float | None, ...] = ()
    motions: tuple[float | None, ...] = ()
    preview: bytes | None = field(default=None, repr=False)
    seconds: float | None = None

    def after(self, step: DenoisingStep) -> RunView:
        """Return the view after another step."""
        return replace(
            self,
            computed=(*self.computed, any(step.computed)),
            distances=(*self.distances, _first(step.distances)),
            motions=(*self.motions, _first(step.motions)),
        )

    @property
    def num_computed(self) -> int:
        """Number of steps so far that were computed."""
        return sum(self.computed)

    @property
    def is_finished(self) -> bool:
        """Whether the video is written."""
        return self.seconds is not None


@dataclass(frozen=True)
class PairView:
    """The two runs of a pair.

    Attributes:
        request: what was asked for.
        runs: the baseline and the cached run.
        note: one line about the settings of the cached run.
        token: name of the pair's files on the page.
        psnr: PSNR in dB of the cached video against the baseline video, once both are finished.
    """

    request: PairRequest
    runs: tuple[RunView, RunView]
    note: str
    token: str
    psnr: float | None = None

    def with_run(self, run: RunView) -> PairView:
        """Return the view with another state of one of its runs."""
        baseline, cached = self.runs
        return replace(self, runs=(run, cached) if run.name == baseline.name else (baseline, run))

    @property
    def baseline(self) -> RunView:
        """The baseline run."""
        return self.runs[0]

    @property
    def cached(self) -> RunView:
        """The cached run."""
        return self.runs[1]

    @property
    def speedup(self) -> float | None:
        """Seconds of the baseline divided by those of the cached run, once both are finished."""
        baseline, cached = (run.seconds for run in self.runs)
        return baseline / cached if baseline is not None and cached else None

    @property
    def is_finished(self) -> bool:
        """Whether both videos are written and compared."""
        return self.psnr is not None

    @property
    def is_kept(self) -> bool:
        """Whether any video is written, so that the pair belongs into the history."""
        return any(run.is_finished for run in self.runs)


@dataclass(frozen=True)
class Waiting:
    """The pair waits in the queue.

    Attributes:
        ahead: number of pairs that are made before it.
    """

    ahead: int


@dataclass(frozen=True)
class Making:
    """The pair is being made."""

    pair: PairView


@dataclass(frozen=True)
class Ended:
    """Nothing more happens to the pair.

    Attributes:
        pair: what was made of it; None if nothing was begun.
        line: why it is not finished, or "".
        failed: whether that is an error.
    """

    pair: PairView | None
    line: str = ""
    failed: bool = False


State = Waiting | Making | Ended


def _first(values: Sequence[float | None]) -> float | None:
    return values[0] if values else None
