"""Settings of steps that leave out the unconditional rows; importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from opensora_adacache.caching.checks import check_counts, check_fraction, check_positive, plain
from opensora_adacache.caching.fractions import whole_steps


@dataclass(frozen=True)
class GuidanceReuse:
    """Leaves out the unconditional rows at some steps, and rebuilds their output from the conditional one.

    This is CFG-Cache, the guidance part of FasterCache (Lv et al., arXiv 2410.19355), here a setting of every policy.
    From a start on, each window of `interval` steps computes the unconditional rows once: at the first of its steps
    that the policy computes. Every other step calls the model with the conditional rows alone, and its unconditional
    output is

        u = c + low·L + high·H

    with the conditional output c. L and H are the low and the high spatial frequencies of u − c at the last step that
    computed both; low are those within a fifth of the shorter side of the picture. The authors add spectra and
    transform them back at each of these steps. As both transforms are linear, this is the same.

    The paper raises L in the early and H in the late part of these steps by one constant factor. In the authors' code
    for Open-Sora 1.2, which we follow, the factor applies once more at each step since L and H were measured, and the
    two parts overlap. The defaults are that code's: at 30 steps, steps 12 to 14, 16 to 19, 21 to 24 and 26 to 29 leave
    the rows out. The parts are fractions of the run here, so that they fit other numbers of steps.

    From the start on, the policy decides from the conditional rows only, and only these are cached.

    Attributes:
        interval: steps of a window. 1 changes nothing.
        start: fraction of the run in which all rows take part in every step.
        low_factor: factor of L at each step that leaves rows out, up to `low_until`.
        low_until: fraction of the run at which L stops growing.
        high_factor: factor of H at each such step after `high_from`.
        high_from: fraction of the run from which H grows.

    >>> GuidanceReuse().computed_steps(range(1, 31), 30)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 20, 25, 30]
    """

    interval: int = 5
    start: float = 0.37
    low_factor: float = 1.15
    low_until: float = 0.84
    high_factor: float = 1.15
    high_from: float = 0.65

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        check_counts(self, "interval")
        for name in ("start", "low_until", "high_from"):
            check_fraction(name, getattr(self, name))
        check_positive("low_factor", self.low_factor)
        check_positive("high_factor", self.high_factor)

    def first_step(self, num_sampling_steps: int) -> int:
        """Return the first step that may leave rows out; never the first of the run.

        >>> GuidanceReuse().first_step(30), GuidanceReuse(start=0).first_step(30)
        (12, 2)
        """
        return max(whole_steps(self.start, num_sampling_steps) + 1, 2)

    def left_out(self, computed: Iterable[int], num_sampling_steps: int) -> list[int]:
        """Return the steps that leave the unconditional rows out if a policy computes these steps."""
        kept = set(self.computed_steps(computed, num_sampling_steps))
        return [step for step in range(self.first_step(num_sampling_steps), num_sampling_steps + 1) if step not in kept]

    def is_due(self, step: int, last: int) -> bool:
        """Return whether a computed step computes the unconditional rows if the last one that did was `last`."""
        return step // self.interval > last // self.interval

    def computed_steps(self, computed: Iterable[int], num_sampling_steps: int) -> list[int]:
        """Return those of the steps that a policy computes that compute the unconditional rows as well."""
        first, steps = self.first_step(num_sampling_steps), [0]
        for step in computed:
            if step < first or self.is_due(step, steps[-1]):
                steps.append(step)
        return steps[1:]

    def weights(self, step: int, last: int, num_sampling_steps: int) -> tuple[float, float]:
        """Return low and high at a step that leaves rows out.

        Args:
            step: the step.
            last: the last step that computed all rows.
            num_sampling_steps: n.

        >>> low, high = GuidanceReuse().weights(22, 20, 30)
        >>> round(low, 4), round(high, 4)
        (1.3225, 1.3225)
        """
        since = range(max(last + 1, self.first_step(num_sampling_steps)), step + 1)
        num_low = sum(each <= whole_steps(self.low_until, num_sampling_steps) for each in since)
        num_high = sum(each > whole_steps(self.high_from, num_sampling_steps) for each in since)
        return self.low_factor**num_low, self.high_factor**num_high


def active(settings: GuidanceReuse | None) -> GuidanceReuse | None:
    """Return settings that leave rows out, or None.

    >>> active(GuidanceReuse(interval=1)) is None
    True
    """
    return None if settings is None or settings.interval == 1 else settings
