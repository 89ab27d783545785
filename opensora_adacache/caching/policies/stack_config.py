"""What the settings of all policies that skip the whole block stack share."""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.config import DECISIONS, check_choice, is_count


@dataclass(frozen=True)
class StackCacheConfig:
    """Settings shared by policies that skip the whole block stack.

    Attributes:
        decision: "batch" decides for a whole batch, "sample" for each video.
    """

    decision: str = "batch"

    @property
    def forecast(self) -> int:
        """Order of the Taylor series that stands in for the residual; 0 is plain reuse."""
        return 0

    @property
    def measures_forecast(self) -> bool:
        """The published extrapolations are Taylor series over steps."""
        return False

    @property
    def corrector(self) -> float:
        """No published policy takes errors of skipped steps back."""
        return 0.0

    @property
    def num_first_blocks(self) -> int:
        """Blocks that run on every step; the others are the stack that skips."""
        return 0

    @property
    def granularity(self) -> str:
        """These policies hold residuals of the whole stack."""
        return "stack"

    def __post_init__(self) -> None:
        check_choice("decision", self.decision, DECISIONS)

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        """Raise ValueError where the settings do not fit a run of that many steps on a model of that depth."""
        if not is_count(num_sampling_steps):
            raise ValueError(f"num_sampling_steps must be a whole number of at least 1, got {num_sampling_steps!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless a threshold is above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
