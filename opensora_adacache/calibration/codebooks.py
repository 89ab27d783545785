"""Calibrate codebooks: keep the rates and scale the thresholds by one factor, using recordings of uncached videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from opensora_adacache.adapters.recorder import record_probe
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.replay import Recording, record
from opensora_adacache.calibration.kind import GRID, CalibrationKind, changed
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.search import calibrate, mean_computed_steps, scale_codebook


class Codebooks(CalibrationKind):
    """Calibrates AdaCache. Schedules are replayed offline, so a target speedup needs no cached video."""

    field_names = frozenset({"codebook", "moreg", "metric"})
    _recordings: list[Recording] | None = None

    def family(self, cache: Any) -> Sequence[CacheConfig]:
        return [changed(cache, codebook=scale_codebook(cache.codebook, factor)) for factor in GRID]

    def for_speedup(self, cache: Any, speedup: float) -> Found:
        recordings = self.recordings(cache)
        found = calibrate(cache, recordings, speedup)
        return Found(found, mean_computed_steps(found, recordings))

    def recordings(self, cache: Any) -> list[Recording]:
        """Return one recording of the probe for each job. The probe of the settings must not change between calls."""
        if self._recordings is None:
            strides = cache.moreg.strides if cache.moreg else (1,)
            frames, max_rate = self.runs.config.num_latent_frames, max(cache.codebook.values())
            self._recordings = []
            for job in self.runs.jobs:
                with record_probe(self.runs.models.transformer, cache) as residuals:
                    self.runs.denoise(None, [job])
                self._recordings.append(record(residuals, frames, strides, max_rate, cache.metric))
        return self._recordings

    def notes(self, cache: CacheConfig) -> Iterator[str]:
        """Yield the motion that MoReg would measure for each prompt, and their median: a `center` for this model."""
        recordings = self.recordings(cache)
        for job, recording in zip(self.runs.jobs, recordings, strict=True):
            scores = recording.motion_scores()
            yield f"motion {median(scores) if scores else float('nan'):.3f}  {job.prompt}"
        scores = [score for recording in recordings for score in recording.motion_scores()]
        yield f"median motion {median(scores):.4f}" if scores else "no motion: a single latent frame"
