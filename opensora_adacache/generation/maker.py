"""Make clips with Open-Sora's models: the text features of the jobs, then the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from opensora_adacache.generation.clip import Clip
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.pipeline import Pipeline
from opensora_adacache.generation.text_features import TextFeatures


class OpenSoraMaker:
    """Open-Sora's models with the settings of a run. In a ``with`` block, the cache is attached once.

    Args:
        pipeline: the pipeline of the run.
        features_of: function that returns the features of texts.
    """

    def __init__(self, pipeline: Pipeline, features_of: Callable[[Iterable[str]], TextFeatures]) -> None:
        self.pipeline = pipeline
        self._features_of = features_of

    def __enter__(self) -> OpenSoraMaker:
        self.pipeline.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.pipeline.__exit__(*exception)

    def warm_up(self, jobs: Sequence[VideoJob]) -> None:
        """Denoise a batch once and throw it away."""
        self.pipeline.denoise(jobs, self._features_of([text for job in jobs for text in job.texts]))

    def denoise(
        self, jobs: Sequence[VideoJob], callback: Callable[[DenoisingStep], object] | None = None
    ) -> Callable[[], list[Clip]]:
        """Denoise a batch, and return a function that decodes it; see `Pipeline.denoise_batch`."""
        begin = time.perf_counter()
        features = self._features_of([text for job in jobs for text in job.texts])
        seconds = time.perf_counter() - begin
        batch = self.pipeline.denoise_batch(jobs, features, callback)
        return lambda: [replace(clip, text_seconds=seconds) for clip in self.pipeline.decode_batch(batch)]
