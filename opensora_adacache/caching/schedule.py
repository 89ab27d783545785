"""The AdaCache rule for one video (or for a batch that decides together), on plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opensora_adacache.caching.codebook import rate_of
from opensora_adacache.caching.config import AdaCacheConfig
from opensora_adacache.caching.distance import distance_of
from opensora_adacache.caching.moreg import motion_gradient, motion_score, regularize_motion
from opensora_adacache.caching.policy import Decision


@dataclass(frozen=True)
class SiteMeasurement:
    """Sums measured at one probe site on a computed step.

    Attributes:
        change: ‖new − old‖₁, or what `distance.change_sums` has first for another metric.
        norm: ‖old‖₁, likewise.
        motion: per stride ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁; empty where motion does not count.
        new_norm: ‖new‖₂², for the cosine metric only.
    """

    change: float
    norm: float
    motion: Sequence[tuple[float, float]] = ()
    new_norm: float = 0.0

    def distance(self, rate: int, metric: str) -> float:
        """Return how far the new residual is from the old one, per step."""
        sums = [self.change, self.norm]
        return distance_of([*sums, self.new_norm] if metric == "cosine" else sums, rate, metric)


class AdaCacheSchedule:
    """Decide step by step when to compute, as the reference does.

    A step computes when the last computed one lies `rate` steps back, and always at steps 1, n − 1 and n. The rate is
    1 until the first measurement, which is at the second computed step.

    Args:
        config: the settings.
        num_steps: n, the denoising steps of the run.
    """

    def __init__(self, config: AdaCacheConfig, num_steps: int) -> None:
        self.config = config
        self.num_steps = num_steps
        self.rate = 1
        self._last_computed = 0
        self._previous_motion: dict[int, float] = {}

    def computes(self, step: int) -> bool:
        """Tell whether `step`, counted from 1, computes."""
        return step >= self._last_computed + self.rate or step >= self.num_steps - 1

    def counts_motion(self, step: int) -> bool:
        """Tell whether motion is to be measured at `step`."""
        moreg = self.config.moreg
        return moreg is not None and moreg.steps[0] <= step <= moreg.steps[1]

    def end_computed_step(self, step: int, sites: Sequence[SiteMeasurement]) -> Decision | None:
        """Take the measurements of a computed step, one per probe site in order of execution, and set the rate.

        The first computed step has none: it decides nothing and returns None.
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
        """Return shaped motion and its gradient at one site, and remember the motion."""
        moreg = self.config.moreg
        if moreg is None:
            return 1.0, 0.0
        score = motion_score(site.motion) if self.counts_motion(step) else None
        motion = 1.0 if score is None else regularize_motion(score, moreg.center, moreg.power, moreg.divisor)
        gradient = motion_gradient(motion, self._previous_motion.get(index, 1.0), self.rate, moreg.gradient_weight)
        self._previous_motion[index] = motion
        return motion, gradient
