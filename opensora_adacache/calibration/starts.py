"""Calibrate from which step on a fixed schedule reuses anything, for a target PSNR."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.guidance.settings import active
from opensora_adacache.calibration.kind import CalibrationKind, changed
from opensora_adacache.calibration.results import Found


class Starts(CalibrationKind):
    """Calibrates a start. A part of every step computes, so that only a PSNR can be the target."""

    @abstractmethod
    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        """Return settings with later to earlier starts."""

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        raise ValueError(
            f"{type(cache).__name__} computes something at every step, so no number of computed steps tells its "
            "speedup: pass --psnr instead of --speedup"
        )


class AttentionStarts(Starts):
    """Calibrates the first steps of FasterCache, after which attention is reused along its trend."""

    field_names = frozenset({"first_steps", "interval", "trend"})

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        return [changed(cache, first_steps=steps) for steps in range(self.runs.num_steps - 1, 0, -1)]


class GuidanceStarts(Starts):
    """Calibrates the start of `guidance_reuse` with a policy that computes every step."""

    @classmethod
    def fits(cls, cache: CacheConfig) -> bool:
        return active(cache.guidance_reuse) is not None

    def takes(self, cache: CacheConfig) -> bool:
        return self.fits(cache) and self.runs.fixed_steps(cache) == tuple(range(1, self.runs.num_steps + 1))

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        assert cache.guidance_reuse is not None
        n = self.runs.num_steps
        # rounded up, so that each is the start of its step
        starts = [math.ceil(1000 * step / n) / 1000 for step in range(n - 1, 0, -1)]
        return [changed(cache, guidance_reuse=replace(cache.guidance_reuse, start=start)) for start in starts]
