"""TeaCache: the change of the first block's modulated input, mapped by a polynomial fitted to the model.

Source: Liu et al., "Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model", arXiv 2411.19108.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive, is_number, items
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.policies.accumulated import AccumulatingPolicy

if TYPE_CHECKING:
    from torch import Tensor

OPEN_SORA_COEFFICIENTS = (217.546007, -118.329252, 26.8662585, -0.0459364272, 0.0484426240)
"""Published for the Open-Sora 1.2 weights at 480p and 30 steps. Fit new ones for another model, or use (1, 0)."""


@dataclass(frozen=True)
class TeaCacheConfig(CacheConfig):
    """TeaCache.

    Attributes:
        threshold: sum of predicted output changes at which a step computes; published: 0.1 (slow) and 0.2 (fast).
            Raising it computes fewer steps.
        coefficients: polynomial that maps the input change to the predicted output change, highest power first.
    """

    threshold: float = 0.1
    coefficients: tuple[float, ...] = OPEN_SORA_COEFFICIENTS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        object.__setattr__(self, "coefficients", items("coefficients", self.coefficients))
        if not self.coefficients or not all(map(is_number, self.coefficients)):
            raise ValueError(f"coefficients must be numbers, highest power first, got {self.coefficients}")

    @property
    def reads_modulated_input(self) -> bool:
        return True

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return TeaCachePolicy(self, num_sampling_steps, groups)

    def most_lenient(self) -> CacheConfig:
        return self

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        if model_name is None or self.coefficients != OPEN_SORA_COEFFICIENTS:
            return None
        return (
            f"this TeaCache polynomial was published for Open-Sora 1.2, not for {model_name}: set coefficients "
            "fitted to this model, or (1, 0) for none"
        )


class TeaCachePolicy(AccumulatingPolicy):
    """Accumulates poly(‖m_s − m_{s−1}‖₁ / ‖m_{s−1}‖₁); m is the modulated input of the first block."""

    NAME = "modulated input"

    def __init__(self, config: TeaCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(config.threshold, num_steps, groups)
        self.coefficients = config.coefficients

    def measure(self, view: StackView) -> Tensor | None:
        now = view.modulated_input()
        sums = change_sums(view.store.get(self.NAME), now) if self.NAME in view.store else None
        view.store.put(self.NAME, now)
        return sums

    def signal(self, group: int, sums: list[float]) -> float:
        change, norm = sums
        return polynomial(self.coefficients, change / norm if norm else 0.0)


def polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """Return the polynomial at x, highest power first.

    >>> polynomial((2.0, 0.0, 1.0), 3.0)
    19.0
    """
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value
