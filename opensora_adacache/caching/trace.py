"""What a cached run did, step by step. Tables, plots and pages read only these records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opensora_adacache.caching.checks import is_count, is_index, is_number
from opensora_adacache.errors.shown import shown


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
        rebuilt: whether the step left out the unconditional row, and rebuilt its output from the conditional one
            (`GuidanceReuse`).
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
    rebuilt: bool = False

    @property
    def fraction(self) -> float:
        """Fraction of the stack that computed, from 0 to 1."""
        return 0.0 if not self.computed else 1.0 if self.share is None else self.share


def trace_to_json(trace: Sequence[StepRecord]) -> list[dict]:
    """Return the records as plain dictionaries."""
    return [asdict(record) for record in trace]


def trace_from_json(records: Any) -> list[StepRecord]:
    """Return the records that `trace_to_json` wrote.

    Raises:
        ValueError: the input is not a list of records, or a record has a missing, unknown or wrongly typed field. The
            message gives the position of the record, counted from 1.
    """
    if not isinstance(records, list | tuple):
        raise ValueError(f"not a trace: expected a list of steps, got {type(records).__name__}")
    trace: list[StepRecord] = []
    for place, record in enumerate(records, start=1):
        try:
            trace.append(_from_json(record))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"not a trace: entry {place}: {str(error).removeprefix('StepRecord.__init__() ')}"
            ) from None
    check_trace(trace)
    return trace


def check_trace(trace: Sequence[StepRecord]) -> None:
    """Raise ValueError unless the records belong to steps 1, 2, … in order and step 1 computed."""
    if not isinstance(trace, list | tuple) or not all(isinstance(record, StepRecord) for record in trace):
        raise ValueError("not a trace: expected a list of StepRecord, such as session.trace")
    for place, record in enumerate(trace, start=1):
        if record.step != place:
            raise ValueError(f"not a trace: entry {place} is of step {record.step!r}; steps count from 1 without gaps")
    if trace and not trace[0].computed:
        raise ValueError("not a trace: step 1 is reused, but there is nothing before it")


def _from_json(content: Any) -> StepRecord:
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {shown(content)}")
    record = StepRecord(**content)
    for name, check, expected in (
        ("step", is_count, "a whole number of at least 1"),
        ("rate", is_count, "a whole number of at least 1"),
        ("computed", lambda value: isinstance(value, bool), "true or false"),
        ("rebuilt", lambda value: isinstance(value, bool), "true or false"),
        ("rows_computed", is_index, "a whole number from 0"),
        ("milliseconds", is_number, "a finite number"),
    ):
        if not check(getattr(record, name)):
            raise ValueError(f"{name} must be {expected}, got {shown(getattr(record, name))}")
    for name in ("distance", "motion", "motion_gradient", "share"):
        value = getattr(record, name)
        if value is not None and not is_number(value):
            raise ValueError(f"{name} must be a finite number or null, got {shown(value)}")
    return record


def computed_steps(trace: Sequence[StepRecord]) -> list[int]:
    """Return the steps that computed, counted from 1."""
    return [record.step for record in trace if record.computed]


def work_done(trace: Sequence[StepRecord]) -> float:
    """Return the number of computed steps, with those that computed a fraction of the blocks counted by it."""
    return sum(record.fraction for record in trace)


def summarize(trace: Sequence[StepRecord]) -> str:
    """Return one line: how many steps computed, which, and how long the model calls took."""
    steps = computed_steps(trace)
    strip = "".join("#" if record.computed else "." for record in trace)
    seconds = sum(record.milliseconds for record in trace) / 1000
    return f"computed {len(steps)} of {len(trace)} steps [{strip}] in {seconds:.2f} s"
