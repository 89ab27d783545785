"""Make clips from jobs. Only this module combines prompts, references, text features, sampler, cache and VAE.

Letters: B videos of a batch, T latent frames, C latent channels, F frames, H and W pixels or latent rows and columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.caching.session import CacheSession, ObservedStep
from opensora_adacache.caching.team import Team
from opensora_adacache.config.mask_strategy import MaskStrategy
from opensora_adacache.config.settings import OpenSoraConfig
from opensora_adacache.generation.clip import Clip
from opensora_adacache.generation.decoding import decode
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.masks import apply_mask_strategy
from opensora_adacache.generation.reference_latents import encode_references
from opensora_adacache.schedulers import RFLOW, SampledStep

if TYPE_CHECKING:
    from opensora_adacache.caching.trace import StepRecord
    from opensora_adacache.models import OpenSoraVAE, STDiT3
    from opensora_adacache.schedulers.rectified_flow import TextEncoder

StepCallback = Callable[[DenoisingStep], object]
# Whether blocks ran, distances and motions; see `DenoisingStep`.
_Observed = tuple[tuple[bool, ...], tuple[float | None, ...], tuple[float | None, ...]]

# The model is conditioned on this frame rate for images.
IMAGE_FPS = 120
# 5 latents are 17 frames.
LATENTS_PER_CHUNK, FRAMES_PER_CHUNK = 5, 17


@dataclass(frozen=True)
class _Denoised:
    """Result of one run of the sampler for a batch.

    Attributes:
        latents: latents [B, C, T, H, W].
        traces: one trace per video, or one for the whole batch; empty without a cache.
        seconds: seconds in the denoising loop.
        peak_cache_bytes: peak size of the cached residuals.
    """

    latents: Tensor = field(repr=False)
    traces: list[list[StepRecord]]
    seconds: float
    peak_cache_bytes: int


class _Video:
    """State of a video between two loops: its conditions and what was made so far."""

    def __init__(self, job: VideoJob, references: list[Tensor]) -> None:
        self.job = job
        self.references = references
        self.masks = list(job.masks)
        self.parts: list[Tensor] = []
        self.traces: list[list[StepRecord]] = []
        self.decoding_seconds = 0.0
        self.defect: str | None = None


@dataclass(frozen=True)
class DenoisedBatch:
    """A batch whose last loop has not been decoded yet.

    Attributes:
        videos: the videos, with the frames of the loops before.
        runs: the run of each loop.
    """

    videos: list[_Video] = field(repr=False)
    runs: list[_Denoised] = field(repr=False)


class Pipeline:
    """The loaded models of a run.

    In a ``with`` block, the cache is attached once. Outside of one, each call attaches and detaches it.

    Args:
        config: config of the run.
        transformer: transformer on `device`.
        vae: autoencoder on `device`.
        device: device to compute on.
        team: the processes that make a video together; the transformer is split between them. All of them must call
            the same methods with the same jobs. None is this process alone.
    """

    def __init__(
        self,
        config: OpenSoraConfig,
        transformer: STDiT3,
        vae: OpenSoraVAE,
        device: torch.device,
        team: Team | None = None,
    ) -> None:
        self.config = config
        self.transformer = transformer
        self.vae = vae
        self.device = device
        self.team = team or Team()
        self._session: CacheSession | None = None
        self._observed: _Observed = ((True,), (), ())  # in the latest step
        self._preview_seconds = 0.0
        self._depth = 0
        scheduler = config.scheduler
        self.sampler = RFLOW(
            num_sampling_steps=scheduler.num_sampling_steps,
            num_timesteps=scheduler.num_timesteps,
            cfg_scale=scheduler.cfg_scale,
            use_timestep_transform=scheduler.use_timestep_transform,
        )

    def __enter__(self) -> Pipeline:
        if self._depth == 0 and self.config.cache is not None:
            session = apply_cache(self.transformer, self.config.cache, self.sampler.num_sampling_steps)
            self._session = cast(CacheSession, session)  # both guidance branches are in one batch
            self._session.on_step = self._note
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._session is not None:
            self._session.detach()
            self._session, self._observed = None, ((True,), (), ())

    @torch.no_grad()
    def generate(
        self, jobs: Sequence[VideoJob], text_encoder: TextEncoder, callback: StepCallback | None = None
    ) -> list[Clip]:
        """Make the clips of a batch.

        A clip depends only on its own job, unless a cache decides for the whole batch. (Rounding may differ, because
        sums over a larger batch can be computed in another order.)

        Args:
            jobs: B jobs of one run.
            text_encoder: text encoder, or a stand-in that returns the features of their texts.
            callback: function to call after each denoising step of each loop.

        Raises:
            ValueError: a reference cannot be decoded, or is too short for its mask strategy.
        """
        return self.decode_batch(self.denoise_batch(jobs, text_encoder, callback))

    @torch.no_grad()
    def denoise_batch(
        self, jobs: Sequence[VideoJob], text_encoder: TextEncoder, callback: StepCallback | None = None
    ) -> DenoisedBatch:
        """Do the first part of `generate`: all loops of a batch, except for decoding the last one."""
        videos = [_Video(job, encode_references(job.references, job.masks, self.config, self._encode)) for job in jobs]
        runs: list[_Denoised] = []
        with self:
            for loop in range(self.config.loop):
                if loop:
                    self._decode_loop(videos, loop - 1, runs[-1])
                    self._continue(videos, loop)
                runs.append(self._denoise(videos, loop, text_encoder, callback))
        return DenoisedBatch(videos, runs)

    @torch.no_grad()
    def decode_batch(self, batch: DenoisedBatch) -> list[Clip]:
        """Do the second part of `generate`: decode the last loop of a batch."""
        videos, runs = batch.videos, batch.runs
        self._decode_loop(videos, len(runs) - 1, runs[-1])
        return [
            Clip(
                frames=self._join(video),
                traces=video.traces,
                denoising_seconds=sum(run.seconds for run in runs),
                decoding_seconds=video.decoding_seconds,
                peak_cache_bytes=max(run.peak_cache_bytes for run in runs),
                num_steps=self.config.num_steps,
                defect=video.defect,
            )
            for video in videos
        ]

    @torch.no_grad()
    def denoise(self, jobs: Sequence[VideoJob], text_encoder: TextEncoder) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents [B, C, T, H, W] of the first loop of jobs without references, and the traces."""
        with self:
            run = self._denoise([_Video(job, []) for job in jobs], 0, text_encoder)
        return run.latents, run.traces

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the frames [3, F, H, W] of one clip's latents [C, T, H, W], on the CPU, not clamped to -1..1."""
        return decode(self.vae, latents, self.config.num_frames, self.team)

    def _denoise(
        self,
        videos: Sequence[_Video],
        loop: int,
        text_encoder: TextEncoder,
        callback: StepCallback | None = None,
    ) -> _Denoised:
        """Denoise one loop of a batch. An attached cache starts a new run for it and frees its residuals at the end."""
        generators = [torch.Generator().manual_seed(video.job.loop_seed(loop)) for video in videos]
        z = self._draw_latents(generators)
        references, masks = [video.references for video in videos], [video.masks for video in videos]
        mask = apply_mask_strategy(z, references, masks, loop, self.config.align)
        start, self._preview_seconds = self._now(), 0.0
        latents = self.sampler.sample(
            self.transformer,
            text_encoder,
            z=z,
            prompts=[video.job.texts[loop] for video in videos],
            device=self.device,
            additional_args=self._conditions(len(videos)),
            mask=mask,
            generator=generators,
            callback=None if callback is None else partial(self._show, callback, loop),
        )
        seconds = self._now() - start - self._preview_seconds
        if self._session is None:
            return _Denoised(latents, [], seconds, 0)
        traces, peak_bytes = self._session.traces, self._session.run_peak_bytes
        self._session.reset()
        return _Denoised(latents, traces, seconds, peak_bytes)

    def _note(self, step: ObservedStep) -> None:
        self._observed = (step.computed, step.distances, step.motions)

    def _show(self, callback: StepCallback, loop: int, step: SampledStep) -> None:
        index = loop * self.sampler.num_sampling_steps + step.index
        computed, distances, motions = self._observed
        preview = partial(self._preview, step)
        callback(DenoisingStep(index, self.config.num_steps, computed, preview, distances, motions))

    def _preview(self, step: SampledStep) -> Tensor:
        """Return the expected middle frame [B, 3, H, W] of each video. Its time is not part of denoising."""
        start, num_frames = self._now(), self.config.num_frames
        latents = step.final_latents().to(self.vae.dtype)
        frames = self.vae.decode_frame(latents, num_frames, num_frames // 2).float().cpu()
        self._preview_seconds += self._now() - start
        return frames

    def _decode_loop(self, videos: Sequence[_Video], loop: int, run: _Denoised) -> None:
        """Decode the latents that a loop made for the videos, and record whether they are finite."""
        for row, video in enumerate(videos):
            start = self._now()
            frames = self.decode(run.latents[row])
            video.decoding_seconds += self._now() - start
            video.parts.append(frames)
            if run.traces:
                video.traces.append(run.traces[row % len(run.traces)])
            if video.defect is None and self.team.leads and not _is_finite(frames):
                part = "decoding" if _is_finite(run.latents[row]) else "denoising"
                video.defect = f"{part} returned values that are not finite (NaN or infinity)" + (
                    f" in loop {loop}" if self.config.loop > 1 else ""
                )

    def _draw_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw noise [B, C, T, H, W] per video, in float32 on the CPU, so that it is the same for every device."""
        size = self.vae.latent_size((self.config.num_frames, *self.config.image_size))
        shape = (self.vae.out_channels, *size)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(self.device)

    def _conditions(self, num_videos: int) -> dict[str, Tensor]:
        """Return the size and frame rate that the model is conditioned on, [B] each."""
        height, width = self.config.image_size
        fps = IMAGE_FPS if self.config.makes_images else self.config.fps
        values = {"height": height, "width": width, "num_frames": self.config.num_frames, "fps": fps}
        return {name: torch.full((num_videos,), float(value), device=self.device) for name, value in values.items()}

    def _encode(self, frames: Tensor) -> Tensor:
        """Encode [3, F, H, W] as latents [C, T, H, W]: the posterior mean, where the reference draws a sample."""
        return self.vae.encode(frames[None].to(self.device, self.vae.dtype))[0].float()

    def _continue(self, videos: Sequence[_Video], loop: int) -> None:
        """Condition the beginning of `loop` on the end of the previous clip."""
        length = self.config.condition_frame_length
        for video in videos:
            latents = self._encode(video.parts[-1]).cpu() if self.team.leads else None
            video.references.append(self.team.share(latents))  # type: ignore[arg-type]
            video.masks.append(
                MaskStrategy(
                    loop=loop,
                    reference=len(video.references) - 1,
                    reference_start=-length,
                    target_start=0,
                    length=length,
                    edit_ratio=self.config.condition_frame_edit,
                )
            )

    def _join(self, video: _Video) -> Tensor:
        """Return all frames [3, F, H, W] of a video, without those that a loop repeats from the previous one."""
        taken_over = self.config.condition_frame_length // LATENTS_PER_CHUNK * FRAMES_PER_CHUNK
        return torch.cat([video.parts[0], *(part[:, taken_over:] for part in video.parts[1:])], dim=1)

    def _now(self) -> float:
        """Return the current time in seconds, once the device has finished the work of this thread."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return time.perf_counter()


def _is_finite(values: Tensor) -> bool:
    """Return whether all values are finite."""
    low, high = values.aminmax()
    return bool(torch.isfinite(low) and torch.isfinite(high))
