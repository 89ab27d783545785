"""From jobs to clips: the only place that knows prompts, references, text features, sampler, cache and VAE.

Letters: B videos of a batch, T latent frames, C latent channels, F frames, H and W pixels or latent rows and columns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.config.mask_strategy import MaskStrategy
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.masks import apply_mask_strategy
from opensora_adacache.generation.reference_latents import encode_references
from opensora_adacache.schedulers import RFLOW

if TYPE_CHECKING:
    from opensora_adacache.caching.trace import StepRecord
    from opensora_adacache.models import OpenSoraVAE, STDiT3
    from opensora_adacache.schedulers.rectified_flow import TextEncoder

# Images are told to the model as videos of this many frames per second.
IMAGE_FPS = 120
# 5 latents are 17 frames.
LATENTS_PER_CHUNK, FRAMES_PER_CHUNK = 5, 17


@dataclass
class Clip:
    """A video as it was made.

    Attributes:
        frames: [3, F, H, W] in -1..1, on the CPU.
        traces: per loop what the cache did; empty without a cache.
        denoising_seconds: in the denoising loop, of the whole batch.
        decoding_seconds: in the VAE's decoder.
        peak_cache_bytes: the most that cached residuals held, of the whole batch.
    """

    frames: Tensor = field(repr=False)
    traces: list[list[StepRecord]]
    denoising_seconds: float
    decoding_seconds: float
    peak_cache_bytes: int


class Pipeline:
    """The loaded models of a run.

    Args:
        config: of the run.
        transformer: on `device`.
        vae: on `device`.
        device: where to compute.
    """

    def __init__(self, config: RunConfig, transformer: STDiT3, vae: OpenSoraVAE, device: torch.device) -> None:
        self.config = config
        self.transformer = transformer
        self.vae = vae
        self.device = device
        scheduler = config.scheduler
        self.sampler = RFLOW(
            num_sampling_steps=scheduler.num_sampling_steps,
            num_timesteps=scheduler.num_timesteps,
            cfg_scale=scheduler.cfg_scale,
            use_timestep_transform=scheduler.use_timestep_transform,
        )

    @torch.no_grad()
    def generate(self, jobs: Sequence[VideoJob], text_encoder: TextEncoder, progress: bool = False) -> list[Clip]:
        """Make the clips of a batch.

        A clip depends on its own job only (up to rounding: a processor may sum a larger batch in another order),
        unless a cache decides for the whole batch.

        Args:
            jobs: B jobs of one run.
            text_encoder: gives the features of their texts.
            progress: show a progress bar over denoising steps.

        Raises:
            ValueError: a reference cannot be decoded, or its mask strategy does not fit its length.
        """
        references = [encode_references(job.references, job.masks, self.config, self._encode) for job in jobs]
        masks = [list(job.masks) for job in jobs]
        clips = [Clip(torch.empty(0), [], 0.0, 0.0, 0) for _ in jobs]
        parts: list[list[Tensor]] = [[] for _ in jobs]
        for loop in range(self.config.loop):
            if loop:
                self._continue(parts, references, masks, loop)
            self._generate_loop(loop, jobs, references, masks, text_encoder, progress, clips, parts)
        for clip, video in zip(clips, parts, strict=True):
            clip.frames = torch.cat([video[0], *(self._new_frames(part) for part in video[1:])], dim=1)
        return clips

    @torch.no_grad()
    def denoise(self, jobs: Sequence[VideoJob], text_encoder: TextEncoder) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents [B, C, T, H, W] of the first loop of jobs without references, and the traces."""
        generators = [torch.Generator().manual_seed(job.loop_seed(0)) for job in jobs]
        z, texts = self._draw_latents(generators), [job.texts[0] for job in jobs]
        latents, traces, _, _ = self._denoise(z, None, texts, generators, text_encoder, progress=False)
        return latents, traces

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the frames [3, F, H, W] of one clip's latents [C, T, H, W], on the CPU, not cut to -1..1."""
        frames = self.vae.decode(latents[None].to(self.vae.dtype), num_frames=self.config.num_frames)
        return frames[0].float().cpu()

    def _generate_loop(
        self,
        loop: int,
        jobs: Sequence[VideoJob],
        references: list[list[Tensor]],
        masks: list[list[MaskStrategy]],
        text_encoder: TextEncoder,
        progress: bool,
        clips: list[Clip],
        parts: list[list[Tensor]],
    ) -> None:
        """Denoise and decode one loop of a batch; the frames go to `parts`, the rest to `clips`."""
        generators = [torch.Generator().manual_seed(job.loop_seed(loop)) for job in jobs]
        z = self._draw_latents(generators)
        mask = apply_mask_strategy(z, references, masks, loop, self.config.align)
        z, traces, seconds, peak_bytes = self._denoise(
            z, mask, [job.texts[loop] for job in jobs], generators, text_encoder, progress
        )
        for row, (clip, video) in enumerate(zip(clips, parts, strict=True)):
            start = self._now()
            video.append(self.decode(z[row]))
            clip.decoding_seconds += self._now() - start
            clip.denoising_seconds += seconds
            clip.peak_cache_bytes = max(clip.peak_cache_bytes, peak_bytes)
            if traces:
                clip.traces.append(traces[row % len(traces)])

    def _draw_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw noise [B, C, T, H, W] per video, in float32 on the CPU, so that it is the same on every device."""
        size = self.vae.latent_size((self.config.num_frames, *self.config.image_size))
        shape = (self.vae.out_channels, *size)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(self.device)

    def _denoise(
        self,
        z: Tensor,
        mask: Tensor | None,
        texts: list[str],
        generators: list[torch.Generator],
        text_encoder: TextEncoder,
        progress: bool,
    ) -> tuple[Tensor, list[list[StepRecord]], float, int]:
        """Return the latents, the traces, the seconds in the denoising loop and the peak bytes of the cache."""

        def sample() -> Tensor:
            return self.sampler.sample(
                self.transformer,
                text_encoder,
                z=z,
                prompts=texts,
                device=self.device,
                additional_args=self._conditions(len(texts)),
                mask=mask,
                progress=progress,
                generator=generators,
            )

        start = self._now()
        if self.config.cache is None:
            return sample(), [], self._now() - start, 0
        steps = self.config.scheduler.num_sampling_steps
        with apply_cache(self.transformer, self.config.cache, num_sampling_steps=steps) as session:
            latents = sample()
        return latents, session.traces, self._now() - start, session.peak_cache_bytes

    def _conditions(self, num_videos: int) -> dict[str, Tensor]:
        """Return what the model is told about size and speed, [B] each."""
        height, width = self.config.image_size
        fps = IMAGE_FPS if self.config.makes_images else self.config.fps
        values = {"height": height, "width": width, "num_frames": self.config.num_frames, "fps": fps}
        return {name: torch.full((num_videos,), float(value), device=self.device) for name, value in values.items()}

    def _encode(self, frames: Tensor) -> Tensor:
        """Encode [3, F, H, W] as latents [C, T, H, W]: the mean, where the reference draws from the posterior."""
        return self.vae.encode(frames[None].to(self.device, self.vae.dtype))[0].float()

    def _continue(
        self,
        parts: list[list[Tensor]],
        references: list[list[Tensor]],
        masks: list[list[MaskStrategy]],
        loop: int,
    ) -> None:
        """Let the end of what was made last condition the beginning of `loop`."""
        length = self.config.condition_frame_length
        for video, latents, groups in zip(parts, references, masks, strict=True):
            latents.append(self._encode(video[-1]))
            groups.append(
                MaskStrategy(
                    loop=loop,
                    reference=len(latents) - 1,
                    reference_start=-length,
                    target_start=0,
                    length=length,
                    edit_ratio=self.config.condition_frame_edit,
                )
            )

    def _new_frames(self, part: Tensor) -> Tensor:
        """Cut off the frames that a loop [3, F, H, W] took over from the one before."""
        return part[:, self.config.condition_frame_length // LATENTS_PER_CHUNK * FRAMES_PER_CHUNK :]

    def _now(self) -> float:
        """Return the time in seconds after the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
