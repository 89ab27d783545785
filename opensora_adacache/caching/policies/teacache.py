"""TeaCache: the change of the first block's modulated input, mapped by a polynomial fitted to the model.

Source: Liu et al., "Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model", arXiv 2411.19108, and its
published code, which has a polynomial and thresholds for each model. Nothing was published about other numbers of
steps: the code reads the number only to compute the first and the last step. Neither polynomial nor threshold is
therefore rescaled here; fit them for the steps that you take (docs/guide/calibration.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive, is_number, items
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.policies.accumulated import AccumulatingPolicy
from opensora_adacache.errors.closest import closest

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED: dict[str, tuple[float, ...]] = {
    "Open-Sora 1.2": (217.546007, -118.329252, 26.8662585, -0.0459364272, 0.0484426240),
    "Open-Sora-Plan 1.1": (2.05943668e05, -1.48759286e04, 306.085986, 1.31418080, 0.00239658469),
    "Latte": (-2464.34137, 308.044764, 80.7447667, -4.11385132, 0.111001402),
    "HunyuanVideo": (733.226126, -401.131952, 67.5869174, -3.14987800, 0.0961237896),
    "LTX-Video": (21.4700694, -12.8016453, 2.31279151, 0.792487521, 0.00969274326),
    "Mochi": (-3512.41319, 811.675948, -60.9400215, 2.42429681, 0.00305291719),
    "Cosmos": (271.156237, -91.9775607, 2.24437250, 2.08355751, 0.141776330),
}
"""The published polynomials by model. Those of CogVideoX, ConsisID and Wan are not here, because they map the change of
the timestep embedding, which does not depend on the video."""

_CLASSES = {
    "Open-Sora 1.2": None,
    "Open-Sora-Plan 1.1": "LatteT2V",
    "Latte": "LatteTransformer3DModel",
    "HunyuanVideo": "HunyuanVideoTransformer3DModel",
    "LTX-Video": "LTXVideoTransformer3DModel",
    "Mochi": "MochiTransformer3DModel",
    "Cosmos": "CosmosTransformer3DModel",
}


@dataclass(frozen=True)
class TeaCacheConfig(CacheConfig):
    """TeaCache.

    Attributes:
        threshold: sum of predicted output changes at which a step computes. Raising it computes fewer steps. Published:
            0.1 (slow) and 0.2 (fast) for Open-Sora, Open-Sora-Plan and Latte, 0.1 and 0.15 for HunyuanVideo, 0.03 and
            0.05 for LTX-Video, 0.06 and 0.09 for Mochi, 0.3 and 0.4 for Cosmos.
        coefficients: polynomial that maps the input change to the predicted output change, highest power first; or the
            name of a model in `PUBLISHED`. (1, 0) leaves the change as it is.
    """

    threshold: float = 0.1
    coefficients: tuple[float, ...] = PUBLISHED["Open-Sora 1.2"]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        if isinstance(self.coefficients, str):
            if self.coefficients not in PUBLISHED:
                hint = closest(self.coefficients, PUBLISHED)
                raise ValueError(
                    f"no TeaCache polynomial was published for '{self.coefficients}'{hint}; give coefficients, or one "
                    f"of {', '.join(PUBLISHED)}"
                )
            object.__setattr__(self, "coefficients", PUBLISHED[self.coefficients])
        object.__setattr__(self, "coefficients", items("coefficients", self.coefficients))
        if not self.coefficients or not all(map(is_number, self.coefficients)):
            raise ValueError(f"coefficients must be numbers, highest power first, got {self.coefficients}")

    @property
    def reads_modulated_input(self) -> bool:
        return True

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, and the previous modulated input."""
        return super().num_extra_residuals + 1

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return TeaCachePolicy(self, num_sampling_steps, groups)

    def most_lenient(self) -> CacheConfig:
        return self

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        owner = next((name for name, known in PUBLISHED.items() if known == self.coefficients), None)
        if owner is None or _CLASSES[owner] == model_name:
            return None
        return (
            f"this TeaCache polynomial was published for {owner}, not for {model_name or 'Open-Sora 1.2'}: set "
            "coefficients fitted to this model, or (1, 0) for none"
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
