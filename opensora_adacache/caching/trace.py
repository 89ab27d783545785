"""What a cached run did, step by step. Tables, plots and pages read only these records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class StepRecord:
    """One denoising step of one video (or of a batch that decides together).

    Attributes:
        step: counted from 1.
        computed: whether any part of the blocks ran; otherwise stored residuals were reused.
        distance: the value that the policy decides from, such as the mean relative change of the probe residuals
            (AdaCache) or the relative error of the forecast (ForecastCache); None if nothing was measured.
        motion: shaped motion; 1 where motion is not used, None if nothing was measured.
        motion_gradient: weighted change of motion per step; None if nothing was measured.
        rate: the rate after the step.
        rows_computed: rows of the whole batch (videos × guidance branches) that went through the blocks.
        milliseconds: duration of the model call, measured by the device's clock.
        share: fraction of the stack's residuals that computed, for policies that decide about each one separately; None
            if all or none of them did. It counts residuals, not FLOPs (see `costs.flops`).
    """

    step: int
    computed: bool
    distance: float | None
    motion: float | None
    motion_gradient: float | None
    rate: int
    rows_computed: int
    milliseconds: float
    share: float | None = None


def trace_to_json(trace: Sequence[StepRecord]) -> list[dict]:
    """Return the records as plain dictionaries."""
    return [asdict(record) for record in trace]


def trace_from_json(records: Sequence[dict]) -> list[StepRecord]:
    """Return the records that `trace_to_json` wrote.

    Raises:
        ValueError: a record lacks a field or has an unknown one.
    """
    try:
        return [StepRecord(**record) for record in records]
    except TypeError as error:
        raise ValueError(f"not a trace: {error}") from None


def computed_steps(trace: Sequence[StepRecord]) -> list[int]:
    """Return the steps that computed, counted from 1."""
    return [record.step for record in trace if record.computed]


def summarize(trace: Sequence[StepRecord]) -> str:
    """Return one line: how many steps computed, which, and how long the model calls took."""
    steps = computed_steps(trace)
    strip = "".join("#" if record.computed else "." for record in trace)
    seconds = sum(record.milliseconds for record in trace) / 1000
    return f"computed {len(steps)} of {len(trace)} steps [{strip}] in {seconds:.2f} s"
