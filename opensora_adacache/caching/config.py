"""Settings of AdaCache and MoReg. Free of torch, so that configs can be checked before anything heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from opensora_adacache.caching.codebook import check_codebook

if TYPE_CHECKING:
    from opensora_adacache.caching.policy import CachePolicy

RESIDUALS = ("t-attn", "s-attn", "ca-mlp")
"""Names of `AdaCacheConfig.cache_res`: temporal attention, spatial attention, cross-attention + MLP."""
GRANULARITIES = ("stack", "block")
DECISIONS = ("batch", "sample")
METRICS = ("l1", "l2", "cosine")


@dataclass(frozen=True)
class MoRegConfig:
    """Motion regularization (MoReg): more motion, more computed steps. AdaCache paper, section 4.2.

    Attributes:
        strides: frame distances at which a residual is compared with itself; motion is their mean.
        steps: first and last step, counted from 1 and both included, at which motion counts; elsewhere it is 1.
        center: motion that leaves the distance as it is; motion m becomes (m / center)^power / divisor. Raising it
            lowers the regularised motion of every video, which means fewer computed steps.
        power: steepness around `center`.
        divisor: plain divisor after the power.
        gradient_weight: weight of the change of motion per step, which is added to motion.
    """

    strides: tuple[int, ...] = (1,)
    steps: tuple[int, int] = (4, 26)
    center: float = 0.385
    power: float = 8
    divisor: float = 1
    gradient_weight: float = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.strides or any(not is_count(stride) for stride in self.strides):
            raise ValueError(f"MoReg strides must be whole numbers of at least 1, got {self.strides}")
        if len(self.steps) != 2 or any(not is_count(step) for step in self.steps) or self.steps[0] > self.steps[1]:
            raise ValueError(f"MoReg steps must be (first, last), counted from 1 and first <= last, got {self.steps}")
        for name in ("center", "divisor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"MoReg {name} must be above 0, got {getattr(self, name)}")
        for name in ("power", "gradient_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"MoReg {name} must not be negative, got {getattr(self, name)}")


@runtime_checkable
class CacheConfig(Protocol):
    """Settings of any caching policy: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def granularity(self) -> str:
        """Whether residuals of the stack or of each block are held."""

    @property
    def decision(self) -> str:
        """Whether a batch or each video decides."""

    @property
    def forecast(self) -> int:
        """Order of the extrapolation that stands in for the stack residual; 0 is plain reuse."""

    @property
    def measures_forecast(self) -> bool:
        """Whether that is a `ForecastResidual`, in the timestep and with a measured gain; else a Taylor series."""

    @property
    def corrector(self) -> float:
        """Share of the error of skipped steps that the next computed one takes back; 0 is none (`Corrector`)."""

    @property
    def num_first_blocks(self) -> int:
        """Blocks that run on every step; the others are the stack that skips."""

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        """Raise ValueError where the settings do not fit a run of that many steps on a model of that depth."""

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run; `groups` are the rows that decide together."""


@dataclass(frozen=True)
class AdaCacheConfig:
    """Adaptive caching (AdaCache), arXiv 2411.02397.

    Attributes:
        codebook: rising distance thresholds → rates (`codebook.Codebook`).
        cache_res: residual that the distance is measured on: "t-attn", "s-attn" or "ca-mlp" (cross-attention + MLP
            of the spatial and of the temporal block). None: the host's own choice.
        cache_loc: layers, counted from 0, where it is measured; distances are averaged. None: the host's own choice.
        moreg: motion regularization, or None for AdaCache alone.
        granularity: "stack" holds one residual of the whole block stack; "block" holds two residuals for each block,
            as the reference does. Both give the same videos.
        decision: "batch" takes one decision for a whole batch, as the reference does; "sample" takes one for each
            video, so that a batch gives the videos of single runs.
        metric: how the old and the new residual are compared: "l1", the paper's choice and the only one of its public
            code, "l2", or "cosine" (see `distance`). Codebooks belong to one metric.
        forecast: 0 reuses residuals as the paper does; 1 or 2 extrapolates the stack residual in the timestep, with a
            line or a parabola, as far as the last extrapolation proved right (`forecast.ForecastResidual`). Each
            order holds one more residual; only with ``granularity="stack"``.
        corrector: 0 goes on from skipped steps as the paper does; a share below 1 of the error that they made is
            taken back at the next computed step (`corrector.Corrector`). Only for samplers that take Euler steps along
            a rectified flow, such as `RFLOW`.
    """

    codebook: Mapping[float, int]
    cache_res: str | None = None
    cache_loc: tuple[int, ...] | None = None
    moreg: MoRegConfig | None = None
    granularity: str = "stack"
    decision: str = "batch"
    metric: str = "l1"
    forecast: int = 0
    corrector: float = 0.0

    def __post_init__(self) -> None:
        check_codebook(self.codebook)
        object.__setattr__(self, "codebook", dict(self.codebook))
        if self.cache_loc is not None:
            layers = tuple(self.cache_loc)
            if not layers or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in layers):
                raise ValueError(f"cache_loc must name layers, counted from 0, like (13,), got {self.cache_loc!r}")
            object.__setattr__(self, "cache_loc", tuple(sorted(set(layers))))
        if self.cache_res is not None:
            check_choice("cache_res", self.cache_res, RESIDUALS)
        check_choice("granularity", self.granularity, GRANULARITIES)
        check_choice("decision", self.decision, DECISIONS)
        check_choice("metric", self.metric, METRICS)
        if self.forecast not in (0, 1, 2):
            raise ValueError(f"forecast must be 0, 1 or 2, got {self.forecast!r}")
        if self.forecast and self.granularity == "block":
            raise ValueError("forecast needs granularity='stack': it extrapolates the residual of the whole stack")
        check_corrector(self.corrector)
        if self.moreg is not None and not isinstance(self.moreg, MoRegConfig):
            raise ValueError(f"moreg must be a MoRegConfig or None, got {type(self.moreg).__name__}")

    @property
    def measures_forecast(self) -> bool:
        """Whether the stack residual is forecast in the timestep, with a measured gain."""
        return self.forecast > 0

    @property
    def num_first_blocks(self) -> int:
        """The whole stack skips."""
        return 0

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run."""
        from opensora_adacache.caching.adacache import AdaCachePolicy

        return AdaCachePolicy(self, num_sampling_steps, groups)

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        """Raise ValueError where the settings do not fit a run of that many steps on a model of that depth."""
        if not is_count(num_sampling_steps):
            raise ValueError(f"num_sampling_steps must be a whole number of at least 1, got {num_sampling_steps!r}")
        beyond = [layer for layer in self.cache_loc or () if layer >= depth]
        if beyond:
            raise ValueError(f"cache_loc must name layers of 0..{depth - 1}, got {beyond[0]}")
        if self.moreg is not None and self.moreg.steps[1] > num_sampling_steps:
            raise ValueError(
                f"MoReg steps must lie in 1..{num_sampling_steps} (num_sampling_steps), got {self.moreg.steps}"
            )


def is_count(value: Any) -> bool:
    """Tell whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_corrector(value: float) -> None:
    """Raise ValueError unless a share is from 0 to below 1."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"corrector must be a share from 0 (none) to below 1, got {value!r}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
