"""Generates and reads clips of held-out prompts; the readings are stored in a file, so that a run can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.models.stdit3 import STDiT3
from opensora_adacache.models.text_encoder import T5TextEncoder
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes.checker import Reading, read_clip, score_clip
from opensora_adacache.scenes.outline_error import read_outlines
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec
from opensora_adacache.scenes.words import BASE_SIZE, FPS, NUM_FRAMES
from opensora_adacache.schedulers.rectified_flow import RFLOW

# Where clips come from: sampled by the model, drawn, or drawn and passed through the VAE. The last two are upper bounds
# for the checker and for the transformer.
SOURCES = ("model", "rendered", "vae")
# A function that makes the clips [B, 3, F, H, W] of prompts with seeds.
Maker = Callable[[Sequence[tuple[str, Spec]], Sequence[int]], Tensor]


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation; a results file holds the settings of one.

    Attributes:
        weights: digest of the weights; see `digest`.
        source: one of ``SOURCES``.
        steps: number of steps of the sampler.
        guidance: guidance scale.
        prompt_seed: seed of the held-out prompts.
        seed: seed of the first clip; it increases by 1 per clip.
        batch: number of clips made together.
    """

    weights: str
    source: str = "model"
    steps: int = 30
    guidance: float = 2.0
    prompt_seed: int = 0
    seed: int = 0
    batch: int = 8


@dataclass(frozen=True)
class Model:
    """The parts of the bundled model in float32."""

    transformer: STDiT3
    vae: OpenSoraVAE
    text_encoder: T5TextEncoder

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Load the model from a folder in the published layout.

        Raises:
            OSError: a part is missing.
        """
        transformer = STDiT3.from_pretrained(folder / "transformer", dtype=torch.float32)
        text_encoder = T5TextEncoder.from_pretrained(folder, transformer.config.model_max_length)
        text_encoder.attach_null(transformer.y_embedder.y_embedding)
        return cls(transformer, OpenSoraVAE.from_pretrained(folder / "vae", dtype=torch.float32), text_encoder)

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int], scheduler: RFLOW, size: int = BASE_SIZE) -> Tensor:
        """Return clips [B, 3, F, H, W] in -1..1; the noise of a clip depends only on its own seed."""
        shape = (self.vae.out_channels, *self.vae.latent_size((NUM_FRAMES, size, size)))
        z = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        ones = torch.ones(len(prompts))
        latents = scheduler.sample(
            self.transformer,
            self.text_encoder,
            z=z,
            prompts=list(prompts),
            device="cpu",
            additional_args={
                "height": ones * size,
                "width": ones * size,
                "num_frames": ones * NUM_FRAMES,
                "fps": ones * FPS,
            },
        )
        return self.vae.decode(latents, NUM_FRAMES).clamp(-1, 1)


@torch.no_grad()
def reconstruct(vae: OpenSoraVAE, clips: Tensor) -> Tensor:
    """Return clips [B, 3, F, H, W] after encoding and decoding."""
    return vae.decode(vae.encode(clips), NUM_FRAMES).clamp(-1, 1)


def digest(folder: Path) -> str:
    """Return twelve hexadecimal digits that identify the weights in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*/model.safetensors")):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def maker(settings: Settings, folder: Path) -> Maker:
    """Return the function that makes the clips of an evaluation; load the parts that the source needs."""
    renderer = Renderer()

    def rendered(prompts: Sequence[tuple[str, Spec]], seeds: Sequence[int]) -> Tensor:
        return torch.stack([render_clip(spec, seed, renderer) for (_, spec), seed in zip(prompts, seeds, strict=True)])

    if settings.source == "rendered":
        return rendered
    if settings.source == "vae":
        vae = OpenSoraVAE.from_pretrained(folder / "vae", dtype=torch.float32)
        return lambda prompts, seeds: reconstruct(vae, rendered(prompts, seeds))
    model = Model.load(folder)
    scheduler = RFLOW(settings.steps, cfg_scale=settings.guidance, use_timestep_transform=False)
    return lambda prompts, seeds: model.sample([text for text, _ in prompts], seeds, scheduler)


def check_clip(prompt: str, spec: Spec, clip: Tensor) -> dict[str, Any]:
    """Return a row of results for a clip [3, F, H, W]: correct answers, questions, and outlines."""
    pixels = clip.float().numpy()
    reading = read_clip(pixels)
    score = score_clip(spec, reading)
    things = {thing.colour: thing.shape for thing in spec.things}
    outlines = read_outlines(pixels, things, resizing=spec.kind in ("grow", "shrink"))
    return {
        "prompt": prompt,
        "kind": spec.kind,
        "objects": len(spec.things),
        "right": score.right,
        "asked": score.asked,
        "outlines": [asdict(outline) for outline in outlines],
        "seen": describe(reading),
    }


def describe(reading: Reading) -> str:
    """Return a short description of what was read from a clip."""
    things = ", ".join(f"{thing.colour} {thing.shape}" for thing in reading.things) or "nothing"
    motion = " ".join(word for word in (reading.kind, reading.speed, reading.direction) if word)
    return f"{things}; {motion}; {reading.ground} {reading.texture}"


def evaluate(
    settings: Settings, count: int, path: Path, make: Maker, say: Callable[[str], object] = lambda line: None
) -> list[dict[str, Any]]:
    """Make and read the clips that are missing in a results file, and return all its rows up to `count`.

    The first line of the file holds the settings, and every further line holds a row. Only whole batches are kept: rows
    of a batch that was interrupted are made again, so that a resumed file equals that of an uninterrupted run.

    Args:
        settings: settings of the evaluation.
        count: total number of clips.
        path: the results file; created if missing.
        make: makes the clips; see `maker`.
        say: called with a line after every batch.

    Raises:
        ValueError: the file holds results of different settings.
    """
    rows = _resume(path, settings)
    prompts = heldout_prompts(count, settings.prompt_seed)
    while len(rows) < count:
        chosen = range(len(rows), min(len(rows) + settings.batch, count))
        asked = [prompts[index] for index in chosen]
        clips = make(asked, [settings.seed + index for index in chosen])
        new = [check_clip(prompt, spec, clip) for (prompt, spec), clip in zip(asked, clips, strict=True)]
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in new)
        rows += new
        say(f"{len(rows)} of {count} clips")
    return rows[:count]


def _resume(path: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return the rows of whole batches in a results file, and remove all others from it."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    if lines and (found := json.loads(lines[0])) != asdict(settings):
        other = [name for name, value in asdict(settings).items() if found.get(name) != value]
        raise ValueError(
            f"'{path}' holds results of another {' and '.join(other)}; name another file or remove this one"
        )
    kept = lines[1:][: max(len(lines) - 1, 0) // settings.batch * settings.batch]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([json.dumps(asdict(settings)), *kept, ""]), encoding="utf-8")
    return [json.loads(line) for line in kept]
