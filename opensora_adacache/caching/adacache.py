"""AdaCache from top to bottom: the settings, the rule for one video, and the policy that measures for that rule.

Kahatapitiya et al., "Adaptive Caching for Faster Video Generation with Diffusion Transformers", arXiv 2411.02397.
Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_choice, is_index, items, plain
from opensora_adacache.caching.codebook import OPEN_SORA_CODEBOOKS, check_codebook, rate_of
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, Decision, Probe, StackView
from opensora_adacache.caching.distance import change_sums, distance_of
from opensora_adacache.caching.moreg import MoRegConfig, motion_gradient, motion_score, motion_sums, regularize_motion

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore

RESIDUALS = ("t-attn", "s-attn", "ca-mlp")
"""Values of `AdaCacheConfig.cache_res`: temporal attention, spatial attention, cross-attention + MLP."""
GRANULARITIES = ("stack", "block")
METRICS = ("l1", "l2", "cosine")


@dataclass(frozen=True)
class AdaCacheConfig(CacheConfig):
    """Settings of AdaCache.

    Attributes:
        codebook: maps increasing distance thresholds to rates (`codebook.Codebook`).
        cache_res: the residual whose change is measured: "t-attn", "s-attn" or "ca-mlp" (cross-attention + MLP of both
            the spatial and the temporal block). With None the adapter chooses.
        cache_loc: layers to measure at, counted from 0; their distances are averaged. With None the adapter chooses.
        moreg: motion regularization, or None for AdaCache alone.
        granularity: "stack" stores one residual for the whole block stack; "block" stores two residuals per block, as
            the reference implementation does. Both produce the same videos.
        metric: how the old and the new residual are compared: "l1" (used in the paper and the only metric in its public
            code), "l2" or "cosine" (see `distance`). A codebook is only valid for one metric.
        forecast: 0 reuses residuals as the paper does; 1 or 2 extrapolates the stack residual over the timestep with a
            line or a parabola, using gains measured at computed steps (`residuals.measured_forecast`). Each order
            stores one more residual. Requires ``granularity="stack"``.
    """

    codebook: Mapping[float, int]
    cache_res: str | None = None
    cache_loc: tuple[int, ...] | None = None
    moreg: MoRegConfig | None = None
    granularity: str = "stack"
    metric: str = "l1"
    forecast: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_codebook(self.codebook)
        object.__setattr__(self, "codebook", plain(dict(self.codebook)))
        if self.cache_loc is not None:
            layers = items("cache_loc", self.cache_loc)
            if not layers or not all(map(is_index, layers)):
                raise ValueError(f"cache_loc must name layers, counted from 0, like (13,), got {self.cache_loc!r}")
            object.__setattr__(self, "cache_loc", tuple(sorted(set(layers))))
        if self.cache_res is not None:
            check_choice("cache_res", self.cache_res, RESIDUALS)
        check_choice("granularity", self.granularity, GRANULARITIES)
        check_choice("metric", self.metric, METRICS)
        check_choice("forecast", self.forecast, (0, 1, 2))
        if self.forecast and self.predictor:
            raise ValueError(
                f"forecast and predictor both say what a skipped step adds, got {self.predictor!r}: give one"
            )
        if self.forecast and self.granularity == "block":
            raise ValueError("forecast needs granularity='stack': it extrapolates the residual of the whole stack")
        if self.moreg is not None and not isinstance(self.moreg, MoRegConfig):
            raise ValueError(f"moreg must be a MoRegConfig or None, got {type(self.moreg).__name__}")

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return AdaCachePolicy(self, num_sampling_steps, groups)

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        if not self.forecast:
            return super().build_residual(store, num_rows, device)
        from opensora_adacache.caching.residuals.measured_forecast import MeasuredForecast

        return MeasuredForecast(store, self.forecast, num_rows, device)

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        beyond = [layer for layer in self.cache_loc or () if layer >= depth]
        if beyond:
            raise ValueError(f"cache_loc must name layers of 0..{depth - 1}, got {beyond[0]}")
        if self.moreg is not None:
            self.moreg.window(num_sampling_steps)

    def most_lenient(self) -> AdaCacheConfig:
        """Use the largest rate of the codebook at every distance."""
        return replace(self, codebook={1.0: max(self.codebook.values())}, moreg=None)

    def for_frames(self, num_latent_frames: int) -> AdaCacheConfig:
        """Disable MoReg for a single frame, which has no motion."""
        if self.moreg is None or num_latent_frames == 1:
            return replace(self, moreg=None)
        if any(stride >= num_latent_frames for stride in self.moreg.strides):
            raise ValueError(
                f"MoReg strides must be below {num_latent_frames}, the latent frames of the clip, got "
                f"{self.moreg.strides}"
            )
        return self

    @property
    def probe(self) -> Probe:
        return Probe(self.cache_res, self.cache_loc)

    @property
    def reads_frames(self) -> bool:
        """MoReg compares frames with each other."""
        return self.moreg is not None

    @property
    def num_extra_residuals(self) -> int:
        """The residuals of the probes ("ca-mlp" has two per layer) plus what the forecast holds."""
        num_layers = 1 if self.cache_loc is None else len(self.cache_loc)
        return num_layers * (2 if self.cache_res == "ca-mlp" else 1) + self.num_forecast_residuals

    @property
    def own_forecast_residuals(self) -> int:
        """The differences of the forecast."""
        return self.forecast

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        if model_name is None or self.codebook not in OPEN_SORA_CODEBOOKS.values():
            return None
        return (
            f"this codebook was published for Open-Sora 1.2, not for {model_name}: find one for this model with "
            "opensora-adacache calibrate-pipeline"
        )


@dataclass(frozen=True)
class SiteMeasurement:
    """Sums measured at one probe site on a computed step.

    Attributes:
        change: ‖new − old‖₁, or the first value of `distance.change_sums` for another metric.
        norm: ‖old‖₁, or the second value of `distance.change_sums` for another metric.
        motion: for each stride, ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁; empty where motion is not used.
        new_norm: ‖new‖₂², for the cosine metric only.
    """

    change: float
    norm: float
    motion: Sequence[tuple[float, float]] = ()
    new_norm: float = 0.0

    def distance(self, rate: int, metric: str) -> float:
        """Return the distance per step between the new residual and the old one."""
        sums = [self.change, self.norm]
        return distance_of([*sums, self.new_norm] if metric == "cosine" else sums, rate, metric)


class AdaCacheSchedule:
    """Decides step by step when to compute, following the reference implementation.

    A step computes when the last computed step is `rate` steps back, and always at steps 1, n − 1 and n. The rate is 1
    until the first measurement, which happens at the second computed step.

    Args:
        config: the settings.
        num_steps: n, the denoising steps of the run.
    """

    def __init__(self, config: AdaCacheConfig, num_steps: int) -> None:
        self.config = config
        self.num_steps = num_steps
        self._window = config.moreg.window(num_steps) if config.moreg else None
        self.rate = 1
        self._last_computed = 0
        self._previous_motion: dict[int, float] = {}

    def computes(self, step: int) -> bool:
        """Return whether `step`, counted from 1, computes."""
        return step >= self._last_computed + self.rate or step >= self.num_steps - 1

    def counts_motion(self, step: int) -> bool:
        """Return whether to measure motion at `step`."""
        return self._window is not None and self._window[0] <= step <= self._window[1]

    def end_computed_step(self, step: int, sites: Sequence[SiteMeasurement]) -> Decision | None:
        """Update the rate from the measurements of a computed step, one per probe site in order of execution.

        Returns None at the first computed step, which has no measurements.
        """
        self._last_computed = step
        if not sites:
            return None
        distance = sum(site.distance(self.rate, self.config.metric) for site in sites) / len(sites)
        motion, gradient = 1.0, 0.0
        for index, site in enumerate(sites):
            motion, gradient = self._motion(index, site, step)
        self.rate = rate_of(distance * (motion + abs(gradient)), self.config.codebook)
        return Decision(distance, motion, gradient, self.rate)

    def _motion(self, index: int, site: SiteMeasurement, step: int) -> tuple[float, float]:
        """Return the shaped motion and its gradient at one site, and store the motion for the next call."""
        moreg = self.config.moreg
        if moreg is None:
            return 1.0, 0.0
        score = motion_score(site.motion) if self.counts_motion(step) else None
        motion = 1.0 if score is None else regularize_motion(score, moreg.center, moreg.power, moreg.divisor)
        gradient = motion_gradient(motion, self._previous_motion.get(index, 1.0), self.rate, moreg.gradient_weight)
        self._previous_motion[index] = motion
        return motion, gradient


class AdaCachePolicy(CachePolicy):
    """Decides which groups of rows compute. The rows of a group (a batch, or one video) decide together.

    Args:
        config: the settings.
        num_steps: denoising steps of the run.
        groups: the rows of each group; every row belongs to exactly one group.
    """

    def __init__(self, config: AdaCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.schedules = [AdaCacheSchedule(config, num_steps) for _ in groups]
        self._strides = config.moreg.strides if config.moreg else ()
        self._metric = config.metric
        self._sums: list[Tensor] = []

    def decide(self, view: StackView) -> list[bool]:
        return [schedule.computes(view.step) for schedule in self.schedules]

    @property
    def rates(self) -> list[int]:
        return [schedule.rate for schedule in self.schedules]

    def observe_probe(self, step: int, old: Tensor, new: Tensor, num_frames: int) -> None:
        """Measure the change between the old and the new residual [r, N, C] of one probe; stays on the device."""
        import torch

        sums = change_sums(old, new, self._metric)
        if self.schedules[0].counts_motion(step):
            motion = motion_sums(self.team.whole_sequence(new, num_frames), num_frames, self._strides)
            sums = torch.cat([sums, motion.flatten(1)], dim=1)
        self._sums.append(sums)

    def take_measurements(self) -> Sequence[Tensor]:
        """Return what the step measured, float32 [r, sums] per probe, and clear it."""
        sums, self._sums = self._sums, []
        return sums

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        return [
            None
            if sites is None
            else schedule.end_computed_step(step, [as_measurement(s, self._metric) for s in sites])
            for schedule, sites in zip(self.schedules, self.pooled(computed, measured), strict=True)
        ]


def as_measurement(sums: list[float], metric: str) -> SiteMeasurement:
    """Name the sums of a site over rows that decide together: first those of the metric, then two sums per stride."""
    change, norm, *rest = sums
    new_norm = rest.pop(0) if metric == "cosine" else 0.0
    return SiteMeasurement(change, norm, tuple(zip(rest[::2], rest[1::2], strict=True)), new_norm)
