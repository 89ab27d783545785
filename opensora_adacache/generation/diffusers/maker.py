"""Make clips with a diffusers pipeline: its call with the prompts and random streams of the jobs, and its traces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.experts import transformers_of
from opensora_adacache.adapters.diffusers.experts_session import ExpertsSession
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.session import ObservedStep
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.generation.clip import Clip
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.diffusers.calls import PipelineCalls, watched_calls
from opensora_adacache.generation.diffusers.middle_frame import decode_middle_frame
from opensora_adacache.generation.diffusers.scheduler_steps import SchedulerStep, watched_steps
from opensora_adacache.generation.jobs import VideoJob


class PipelineMaker:
    """A pipeline with the settings of a run. In a ``with`` block, the cache is attached once.

    Args:
        config: config of the run.
        pipeline: the loaded pipeline.
        device: device that it computes on.
    """

    def __init__(self, config: PipelineConfig, pipeline: Any, device: torch.device) -> None:
        self.config = config
        self.pipeline = pipeline
        self.device = device
        self._sessions: dict[str, BranchedSession] = {}
        self._observed: list[ObservedStep] = []  # the calls since the latest step
        self._depth = 0

    def __enter__(self) -> PipelineMaker:
        if self._depth == 0 and self.config.cache is not None:
            self._sessions = self._attached(self.config.cache)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            for session in self._sessions.values():
                session.detach()
            self._sessions = {}

    def warm_up(self, jobs: Sequence[VideoJob]) -> None:
        """Denoise a batch once and throw it away."""
        with self:
            self.pipeline(**self.arguments(jobs), output_type="latent")
            self._reset()

    def denoise(
        self, jobs: Sequence[VideoJob], callback: Callable[[DenoisingStep], object] | None = None
    ) -> Callable[[], list[Clip]]:
        """Make the clips of a batch, and return a function that returns them: the pipeline's call decodes too.

        A clip depends only on its own job, unless a cache decides for the whole batch. (Rounding may differ, because
        sums over a larger batch can be computed in another order.)

        Args:
            jobs: jobs of one run.
            callback: function to call after each step of the scheduler. An exception that it raises ends the run.

        Raises:
            ValueError: the pipeline refuses an argument, or its output is no video.
        """
        with self:
            transformers = list(transformers_of(self.pipeline).values())
            with watched_calls(self.pipeline, transformers, self.device) as calls, self._steps(calls, callback):
                output = self.pipeline(**self.arguments(jobs), output_type="pt")
            videos = [_as_frames(video) for video in output.frames]
            if len(videos) != len(jobs):
                raise ValueError(
                    f"the pipeline made {len(videos)} videos of {len(jobs)} prompts; leave "
                    "num_videos_per_prompt out of pipeline.call"
                )
            clips = [self._clip(row, video, calls, len(videos)) for row, video in enumerate(videos)]
            self._reset()
        return lambda: clips

    def arguments(self, jobs: Sequence[VideoJob]) -> dict[str, Any]:
        """Return the arguments of the pipeline's call for some jobs, without those that concern its output.

        The random streams are on the CPU, so that the noise is the same for every device.
        """
        prompts = [job.texts[0] for job in jobs]
        generators = [torch.Generator().manual_seed(job.loop_seed(0)) for job in jobs]
        one = len(jobs) == 1
        return {
            "prompt": prompts[0] if one else prompts,
            "generator": generators[0] if one else generators,
            **self.config.pipeline.call,
        }

    def _attached(self, cache: CacheConfig) -> dict[str, BranchedSession]:
        """Attach the cache, and return the session of each transformer by the name of its component."""
        session = apply_cache(self.pipeline, cache)
        session.on_step = self._note
        if isinstance(session, ExpertsSession):
            return session.sessions
        (name,) = transformers_of(self.pipeline)
        return {name: cast(BranchedSession, session)}

    def _reset(self) -> None:
        for session in self._sessions.values():
            session.reset()

    def _note(self, branch: str, step: ObservedStep) -> None:
        self._observed.append(step)

    def _steps(
        self, calls: PipelineCalls, callback: Callable[[DenoisingStep], object] | None
    ) -> AbstractContextManager[None]:
        """Call a function after each step of the scheduler."""
        if callback is None:
            return nullcontext()
        self._observed.clear()

        def show(step: SchedulerStep) -> None:
            # of all guidance branches, each of which may decide for itself
            computed = tuple(map(any, zip(*(call.computed for call in self._observed), strict=False))) or (True,)
            first = self._observed[0] if self._observed else None
            measured = (first.distances, first.motions) if first else ((), ())
            self._observed.clear()
            preview = partial(self._preview, calls, step)
            callback(DenoisingStep(step.index, step.num_steps, computed, preview, *measured))

        return watched_steps(self.pipeline.scheduler, show)

    def _preview(self, calls: PipelineCalls, step: SchedulerStep) -> Tensor:
        """Return the expected middle frame [B, 3, H, W] of each video. Its time is not part of denoising."""
        begin = self._now()
        frames = decode_middle_frame(self.pipeline.vae, calls.decode, step.final_latents(), calls.grid)
        calls.aside_seconds += self._now() - begin
        return frames

    def _now(self) -> float:
        """Return the current time in seconds, once the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _clip(self, row: int, video: Tensor, calls: PipelineCalls, num_videos: int) -> Clip:
        traces = dict(self._traces(row))
        finite = bool(torch.isfinite(video).all())
        return Clip(
            frames=video,
            traces=list(traces.values()),
            denoising_seconds=calls.denoising_seconds,
            decoding_seconds=calls.decoding_seconds / num_videos,
            peak_cache_bytes=max(  # transformers run one after the other
                (sum(branch.run_peak_bytes for branch in one.branches.values()) for one in self._sessions.values()),
                default=0,
            ),
            num_steps=sum(map(len, traces.values())) if traces else calls.num_steps,
            defect=None if finite else "the pipeline returned values that are not finite (NaN or infinity)",
            branches=tuple(traces),
            text_seconds=calls.text_seconds,
        )

    def _traces(self, row: int) -> Iterator[tuple[str, list[StepRecord]]]:
        """Yield the name and the trace of each transformer and guidance branch for a video of the batch."""
        for transformer, session in self._sessions.items():
            for branch, part in session.branches.items():
                if traces := part.traces:
                    yield f"{transformer} {branch}".strip(), traces[row % len(traces)]


def _as_frames(video: Tensor) -> Tensor:
    """Return a video [F, 3, H, W] in 0..1 as frames [3, F, H, W] in -1..1 on the CPU."""
    return video.detach().float().cpu().transpose(0, 1) * 2 - 1
