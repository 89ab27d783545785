"""Rectified-flow sampler of Open-Sora 1.2.

Letters: B videos, T latent frames, t a timestep in 0..1000 (1000 is pure noise), i a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from opensora_adacache.models.conditioning import trim_text


class TextEncoder(Protocol):
    """Anything that encodes prompts as text features."""

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Return ``{"y": [B, 1, L, C], "mask": [B, L]}``."""
        ...

    def null(self, n: int) -> Tensor:
        """Return the null text embedding of guidance, [n, 1, L, C]."""
        ...


@dataclass(frozen=True)
class SampledStep:
    """A denoising step that has just finished, as `RFLOW.sample` passes it to its callback.

    Attributes:
        index: index of the step, from 0.
        timestep: timestep at which the model was called.
        latents: [B, C, T, H, W] after the step. The sampler continues to use them, so clone them before changing them.
        velocity: [B, C, T, H, W] of the step, with guidance.
        noise_level: how much of the latents is noise, in 0..1; 0 after the last step.
        generated: bool [B, 1, T, 1, 1], the frames that the step has moved; None if these are all frames.
    """

    index: int
    timestep: float
    latents: Tensor = field(repr=False)
    velocity: Tensor = field(repr=False)
    noise_level: float
    generated: Tensor | None = field(default=None, repr=False)

    def final_latents(self) -> Tensor:
        """Return the latents [B, C, T, H, W] to which the remaining steps would lead if the velocity did not change.

        On a rectified flow z_t = (1 − t)·z_0 + t·noise the velocity is z_0 − noise, so this is z_t + t·v, the model's
        estimate of z_0. Frames that are kept, or whose generation starts later, are as they are.
        """
        final = self.latents.add(self.velocity, alpha=self.noise_level)
        return final if self.generated is None else torch.where(self.generated, final, self.latents)


def transform_timestep(t: float, height: float, width: float, num_frames: int, num_timesteps: int = 1000) -> float:
    """Shift a timestep towards noise for large videos: t' = r·t / (1 + (r − 1)·t) with t in 0..1.

    r = sqrt(height · width / 512²) · sqrt(frames), where frames = num_frames // 17 · 5, but at least 1 (in the
    reference implementation it is 0 for 2 to 16 frames, which makes every timestep 0). The formula is arranged so that
    1 maps to exactly 1. In the float32 of the reference implementation it can come out larger, and then every frame
    counts as kept in the first step.

    Args:
        t: timestep in 0..num_timesteps.
        height: height of the video in pixels.
        width: width of the video in pixels.
        num_frames: number of video frames (not latent frames).
        num_timesteps: timestep of pure noise.

    >>> transform_timestep(500.0, 512, 512, 1)
    500.0
    """
    frames = max(num_frames // 17 * 5, 1)
    ratio = math.sqrt(height * width / 512**2) * math.sqrt(frames)
    t = t / num_timesteps
    return ratio * t / (ratio * t + (1 - t)) * num_timesteps


class RFLOW:
    """Samples videos by Euler steps along the rectified flow.

    Args:
        num_sampling_steps: n, the number of denoising steps.
        num_timesteps: timestep of pure noise.
        cfg_scale: guidance scale; v = v_null + scale·(v_prompt − v_null).
        use_timestep_transform: whether to shift timesteps by the size of the video (`transform_timestep`).
    """

    def __init__(
        self,
        num_sampling_steps: int = 30,
        num_timesteps: int = 1000,
        cfg_scale: float = 7.0,
        use_timestep_transform: bool = True,
    ) -> None:
        if num_sampling_steps < 1:
            raise ValueError(f"num_sampling_steps must be at least 1, got {num_sampling_steps}")
        self.num_sampling_steps = num_sampling_steps
        self.num_timesteps = num_timesteps
        self.cfg_scale = cfg_scale
        self.use_timestep_transform = use_timestep_transform

    def timesteps(self, height: float = 512, width: float = 512, num_frames: int = 1) -> list[float]:
        """Return t_i for i = 0..n−1, decreasing from `num_timesteps`, computed in float64."""
        n = self.num_sampling_steps
        uniform = [(1 - i / n) * self.num_timesteps for i in range(n)]
        if not self.use_timestep_transform:
            return uniform
        return [transform_timestep(t, height, width, num_frames, self.num_timesteps) for t in uniform]

    @torch.no_grad()
    def sample(
        self,
        model: Any,
        text_encoder: TextEncoder,
        z: Tensor,
        prompts: list[str],
        device: torch.device | str,
        additional_args: dict[str, Tensor] | None = None,
        mask: Tensor | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: Callable[[SampledStep], object] | None = None,
    ) -> Tensor:
        """Denoise `z` into the latents of videos.

        Args:
            model: called as ``model(z, t, y=…, mask=…, x_mask=…, **additional_args)`` on [z; z] and [prompt; null],
                without the text that no row reads; returns [2B, C or 2C, T, H, W]. If it has a method `prepare`, that
                method is called once to compute what all steps share, and the model is then called as
                ``model(z, t, conditioning=…, x_mask=…)``.
            text_encoder: provides text features of the prompts and of the null prompt.
            z: noise (or references where `mask` keeps frames) [B, C, T, H, W].
            prompts: B prompts.
            device: device to sample on.
            additional_args: conditions of the model: height, width, num_frames, fps, … [B]. The size of the first
                video determines the timesteps of the whole batch.
            mask: per frame [B, T]: 1 generates the frame, 0 keeps the frame of `z`, and a value in between starts
                generating it at that fraction of the noise. A mask of all ones costs the work of a mask; pass None
                instead.
            guidance_scale: overrides `cfg_scale`.
            generator: generates the noise for masked frames, which is drawn once per step for all frames whether
                needed or not, as in the reference implementation. A single generator, one per video, or None for
                torch's global generator.
            callback: called after each step, for progress bars and previews. An exception that it raises ends the run.

        Returns:
            Latents [B, C, T, H, W] in the dtype of `z`.
        """
        if len(prompts) != z.shape[0]:
            raise ValueError(f"expected one prompt per video, got {len(prompts)} prompts for {z.shape[0]} videos")
        if isinstance(generator, Sequence) and len(generator) != z.shape[0]:
            raise ValueError(f"expected one generator per video, got {len(generator)} for {z.shape[0]} videos")
        if mask is not None and mask.shape != (z.shape[0], z.shape[2]):
            raise ValueError(f"mask must be [videos, frames] = {(z.shape[0], z.shape[2])}, got {tuple(mask.shape)}")
        scale = self.cfg_scale if guidance_scale is None else guidance_scale
        conditions: dict[str, Any] = dict(additional_args or {})
        conditions.update(text_encoder.encode(prompts))
        conditions["y"] = torch.cat([conditions["y"], text_encoder.null(len(prompts)).to(conditions["y"])])
        conditions["y"], conditions["mask"] = trim_text(conditions["y"], conditions.get("mask"))
        conditions = {key: _to(value, device) for key, value in conditions.items()}
        if hasattr(model, "prepare"):
            conditions = {"conditioning": model.prepare(**conditions, latent_size=z.shape[2:])}
        timesteps = self.timesteps(*_size(additional_args)) if self.use_timestep_transform else self.timesteps()
        z = z.to(device)
        frames = None if mask is None else FrameMask(mask, self.num_timesteps)

        for i, t in enumerate(timesteps):
            kept = z
            if frames is not None:
                z = frames.add_noise(z, t, _randn_like(z, generator))
                conditions["x_mask"] = frames.guided_x_mask(z.device)
            t_model = torch.full((2 * z.shape[0],), t, dtype=torch.float32, device=z.device)
            prompt, null = model(torch.cat([z, z]), t_model, **conditions)[:, : z.shape[1]].chunk(2)
            velocity = torch.lerp(null, prompt, scale).to(z.dtype)
            following = timesteps[i + 1] if i + 1 < len(timesteps) else 0.0
            z_next = z.add(velocity, alpha=(t - following) / self.num_timesteps)
            z = z_next if frames is None else frames.put_back(z_next, kept)
            if callback is not None:
                moved = None if frames is None else frames.moved(z)
                callback(SampledStep(i, t, z, velocity, following / self.num_timesteps, moved))
        return z


class FrameMask:
    """Determines on the host, without reading from the device, which frames a masked run generates at each step.

    Each pattern of frames is copied to the device only once, because copies from the host make the device wait.

    Args:
        mask: [B, T] in 0..1.
        num_timesteps: timestep of pure noise.
    """

    def __init__(self, mask: Tensor, num_timesteps: int) -> None:
        self.num_timesteps = num_timesteps
        self.start = mask.detach().to("cpu", torch.float64) * num_timesteps
        self.noised = self.start == num_timesteps
        self.generated = self.noised
        self._on_device: dict[tuple[object, ...], Tensor] = {}

    def add_noise(self, z: Tensor, t: float, noise: Tensor) -> Tensor:
        """Begin the step at `t`: add noise of this level to the frames whose generation starts now."""
        self.generated = self.start >= t
        added = self.generated & ~self.noised
        self.noised = self.generated
        if not added.any():
            return z
        tau = t / self.num_timesteps
        return torch.where(self._frames(added, z), (1 - tau) * z + tau * noise, z)

    def guided_x_mask(self, device: torch.device) -> Tensor | None:
        """Return x_mask for both guidance branches, bool [2B, T]; None if every frame is generated."""
        if self.generated.all():
            return None
        return self._upload(self.generated.repeat(2, 1), device)

    def put_back(self, z: Tensor, kept: Tensor) -> Tensor:
        """End the step: restore the frames whose generation has not started yet."""
        moved = self.moved(z)
        return z if moved is None else torch.where(moved, z, kept)

    def moved(self, z: Tensor) -> Tensor | None:
        """Return which frames this step moves, bool [B, 1, T, 1, 1] on the device of z; None if every frame is."""
        return None if self.generated.all() else self._frames(self.generated, z)

    def _frames(self, frames: Tensor, z: Tensor) -> Tensor:
        return self._upload(frames, z.device)[:, None, :, None, None]

    def _upload(self, frames: Tensor, device: torch.device) -> Tensor:
        key = (device, frames.shape[0], *frames.flatten().tolist())
        if key not in self._on_device:
            self._on_device[key] = frames.to(device)
        return self._on_device[key]


def _randn_like(z: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    """Draw noise with the shape of `z`, on the generator's own device, so that a seed gives the same noise anywhere."""
    if generator is None:
        return torch.randn_like(z)
    if isinstance(generator, torch.Generator):
        return torch.randn(z.shape, generator=generator, device=generator.device, dtype=torch.float32).to(z)
    return torch.cat([_randn_like(z[i : i + 1], single) for i, single in enumerate(generator)])


def _to(value: Any, device: torch.device | str) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _size(additional_args: dict[str, Tensor] | None) -> tuple[float, float, int]:
    """Return height, width and number of frames of the first video."""
    try:
        height, width, frames = (additional_args[key] for key in ("height", "width", "num_frames"))  # type: ignore[index]
    except (KeyError, TypeError):
        raise ValueError(
            "use_timestep_transform needs additional_args with height, width and num_frames, "
            f"got {sorted(additional_args or {})}"
        ) from None
    return float(height[0]), float(width[0]), int(frames[0])
