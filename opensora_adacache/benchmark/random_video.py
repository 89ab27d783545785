"""Inputs of published size for a model with random weights: times and bytes are real, the video shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from opensora_adacache import apply_cache
from opensora_adacache.costs.flops import count_step
from opensora_adacache.models.conditioning import trim_text
from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
from opensora_adacache.schedulers import RFLOW


@dataclass(frozen=True)
class VideoSize:
    """Size of a video in pixels, frames and latents (T, H, W)."""

    height: int
    width: int
    num_frames: int
    latents: tuple[int, int, int]


SIZES = {
    "480p": VideoSize(480, 854, 51, (15, 60, 106)),
    "720p": VideoSize(720, 1280, 51, (15, 90, 160)),
    "tiny": VideoSize(64, 96, 17, (5, 8, 12)),
}
TINY = STDiT3Config(depth=4, hidden_size=96, num_heads=4, caption_channels=64)


def random_model(
    config: STDiT3Config, device: torch.device, dtype: torch.dtype, attention_backend: str = "auto"
) -> STDiT3:
    """Return a model without zero weights, so that every product does real work."""
    with torch.device(device):
        model = STDiT3(config, attention_backend).to(dtype).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    return model


def step_tflops(config: STDiT3Config, size: VideoSize, num_text_tokens: int) -> float:
    """Return the cost of a computed step in 10^12 FLOPs. All layers cost the same, so only one is counted."""
    with torch.device("meta"):
        layer = STDiT3(replace(config, depth=1))
    step = count_step(layer, size.latents, num_text_tokens)
    return (step.reused + config.depth * sum(step.sites.values())) / 1e12


class RandomVideo:
    """The noise, text features and conditions of one video.

    Args:
        model: model from `random_model`.
        size: size of the video.
        num_tokens: number of tokens in the prompt. The features are padded to the length that the model expects.
    """

    def __init__(self, model: STDiT3, size: VideoSize, num_tokens: int = 20) -> None:
        config = model.config
        self.model = model
        self.z = torch.randn(1, config.in_channels, *size.latents, device=model.device)
        self.y = torch.randn(1, 1, config.model_max_length, config.caption_channels)
        self.mask = (torch.arange(config.model_max_length) < num_tokens).long()[None]
        values = {"height": size.height, "width": size.width, "num_frames": size.num_frames, "fps": 24}
        self.conditions = {name: torch.tensor([float(value)], device=model.device) for name, value in values.items()}

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Return the text features, as a text encoder does."""
        return {"y": self.y, "mask": self.mask}

    def null(self, n: int) -> Tensor:
        """Return null text features, as a text encoder does."""
        return torch.zeros_like(self.y)

    def step(self, trim: bool = True) -> Callable[[], Tensor]:
        """Return a call of the model on both guidance branches, with trimmed or padded text."""
        y, mask = torch.cat([self.y, self.null(1)]), self.mask
        text, text_mask = trim_text(y, mask) if trim else (y, mask)
        model = self.model
        conditioning = model.prepare(
            text.to(model.device),
            None if text_mask is None else text_mask.to(model.device),
            **self.conditions,
            latent_size=self.z.shape[2:],
        )
        x, t = torch.cat([self.z, self.z]), torch.full((2,), 700.0, device=model.device)
        return lambda: model(x, t, conditioning=conditioning)

    def sample(self, num_steps: int, cache: Any = None) -> tuple[Tensor, list[bool], int]:
        """Return the latents of a whole run, whether each step was computed, and the peak bytes of the cache."""
        attached = nullcontext() if cache is None else apply_cache(self.model, cache, num_sampling_steps=num_steps)
        with attached as session:
            latents = RFLOW(num_steps).sample(
                self.model,
                self,
                z=self.z,
                prompts=["a prompt"],
                device=self.model.device,
                additional_args=self.conditions,
            )
        if session is None:
            return latents, [True] * num_steps, 0
        return latents, [record.computed for record in session.traces[0]], session.peak_cache_bytes
