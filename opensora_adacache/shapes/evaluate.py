"""Generates held-out prompts with the bundled model and counts what the checker reads correctly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.models.stdit3 import STDiT3
from opensora_adacache.models.text_encoder import T5TextEncoder
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.schedulers.rectified_flow import RFLOW
from opensora_adacache.shapes.checker import ClipReading, ClipScore, add_scores, read_clip, score_clip
from opensora_adacache.shapes.scene import BASE_SIZE, NUM_FRAMES, SceneSpec

WEIGHTS = Path(__file__).parent / "weights"
FPS = 8


@dataclass(frozen=True)
class ShapesModel:
    """The loaded parts of the bundled model."""

    transformer: STDiT3
    vae: OpenSoraVAE
    text_encoder: T5TextEncoder

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> ShapesModel:
        """Load the model in float32 from a folder in the published layout."""
        transformer = STDiT3.from_pretrained(folder / "transformer", dtype=torch.float32)
        text_encoder = T5TextEncoder.from_pretrained(folder, transformer.config.model_max_length)
        text_encoder.attach_null(transformer.y_embedder.y_embedding)
        return cls(transformer, OpenSoraVAE.from_pretrained(folder / "vae", dtype=torch.float32), text_encoder)

    def sample_latents(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        scheduler: RFLOW,
        size: int = BASE_SIZE,
        attach: Callable[[STDiT3], AbstractContextManager[Any]] | None = None,
    ) -> Tensor:
        """Return latents [B, 4, T, h, w]. The noise of a video depends only on its own seed.

        Args:
            attach: called with the transformer; returns the context manager in which to sample (a cache).
        """
        shape = (self.vae.out_channels, *self.vae.latent_size((NUM_FRAMES, size, size)))
        z = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        ones = torch.ones(len(prompts))
        conditions = {
            "height": ones * size,
            "width": ones * size,
            "num_frames": ones * NUM_FRAMES,
            "fps": ones * FPS,
        }
        with attach(self.transformer) if attach else nullcontext():
            return scheduler.sample(
                self.transformer,
                self.text_encoder,
                z=z,
                prompts=list(prompts),
                device="cpu",
                additional_args=conditions,
            )

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return clips [B, 3, F, H, W] in -1..1."""
        return self.vae.decode(latents, NUM_FRAMES).clamp(-1, 1)


@dataclass(frozen=True)
class CheckedClip:
    """A prompt, what was read from its clip, and the comparison of both."""

    prompt: str
    spec: SceneSpec
    reading: ClipReading
    score: ClipScore


def check_clips(prompts: Sequence[tuple[str, SceneSpec]], clips: Tensor) -> list[CheckedClip]:
    """Read clips [B, 3, F, H, W] and compare each with its prompt."""
    readings = [read_clip(clip.float().numpy()) for clip in clips]
    return [
        CheckedClip(prompt, spec, reading, score_clip(spec, reading))
        for (prompt, spec), reading in zip(prompts, readings, strict=True)
    ]


def accuracy_table(checked: Sequence[CheckedClip]) -> str:
    """Return a Markdown table of the fraction correct per attribute: all clips, one object, two objects.

    Colour, shape, direction and speed count per object, direction only for moving objects.
    """
    groups = {
        f"all ({len(checked)} clips)": list(checked),
        "one object": [c for c in checked if len(c.spec.objects) == 1],
        "two objects": [c for c in checked if len(c.spec.objects) == 2],
    }
    names = ("colour", "direction", "speed", "shape", "background", "count", "arrangement")
    lines = ["| clips | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for title, members in groups.items():
        if members:
            shares = add_scores(c.score for c in members)
            lines.append(f"| {title} | " + " | ".join(_percent(shares[n]) for n in names) + " |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


def failure_lines(checked: list[CheckedClip]) -> list[str]:
    """Describe every clip with an error: the prompt, what is wrong, and what was seen."""
    lines = []
    for item in checked:
        right, asked = item.score.right, item.score.asked
        wrong = [name for name in asked if right[name] != asked[name]]
        if wrong:
            things = [f"{o.colour} {o.shape} {o.speed} {o.direction or ''}".strip() for o in item.reading.objects]
            lines.append(f"{item.prompt}: {', '.join(wrong)} ({', '.join(things) or 'nothing'} was seen)")
    return lines
