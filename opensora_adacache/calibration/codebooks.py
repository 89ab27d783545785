"""Calibrate codebooks: keep the rates and scale the thresholds by one factor, using recordings of uncached videos."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from statistics import fmean, median
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.replay import Recording
from opensora_adacache.calibration.kind import GRID, CalibrationKind, changed
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.search import calibrate, mean_computed_steps, scale_codebook


class Codebooks(CalibrationKind):
    """Calibrates AdaCache. Schedules are replayed offline, so a target speedup needs no cached video."""

    field_names = frozenset({"codebook", "moreg", "metric"})

    def __init__(self, runs: CalibrationRuns) -> None:
        super().__init__(runs)
        self._recordings: dict[Hashable, list[list[Recording]]] = {}

    def family(self, cache: Any) -> Sequence[CacheConfig]:
        return [changed(cache, codebook=scale_codebook(cache.codebook, factor)) for factor in GRID]

    def for_speedup(self, cache: Any, speedup: float) -> Found:
        recordings = self.recordings(cache)
        found = calibrate(cache, recordings, speedup)
        # recordings of two transformers have some of the run's steps each
        share = fmean(recording.num_steps for recording in recordings) / self.runs.num_steps
        return Found(found, mean_computed_steps(found, recordings) / share)

    def recordings(self, cache: Any) -> list[Recording]:
        """Return the recordings of all jobs and guidance branches."""
        return [one for of_job in self._by_job(cache) for one in of_job]

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        return super().num_runs(cache, num_targets, for_psnr) if for_psnr else len(self.runs.jobs)

    def motion(self, cache: Any) -> list[list[float]]:
        """Return the motion that MoReg would measure at the steps of each job, in 0..1."""
        return [
            [score for recording in recordings for score in recording.motion_scores()]
            for recordings in self._by_job(cache)
        ]

    def _by_job(self, cache: Any) -> list[list[Recording]]:
        strides = None if cache.moreg is None else cache.moreg.strides
        recorded = cache.probe, strides, cache.metric, max(cache.codebook.values())
        if recorded not in self._recordings:
            self._recordings[recorded] = self.runs.record_probe(cache)
        return self._recordings[recorded]

    def notes(self, cache: CacheConfig) -> Iterator[str]:
        """Yield the motion that MoReg would measure for each prompt, and their median: a `center` for this model."""
        all_scores = []
        for job, scores in zip(self.runs.jobs, self.motion(cache), strict=True):
            yield f"motion {median(scores) if scores else float('nan'):.3f}  {job.prompt}"
            all_scores += scores
        yield f"median motion {median(all_scores):.4f}" if all_scores else "no motion: a single latent frame"
