"""The whole recipe: three stages in sequence within a budget, and their results."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo.config as torch_compiler_config
from torch import Tensor

from opensora_adacache.models.text_encoder import T5TextEncoder
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes import warm
from opensora_adacache.scenes.export import export_generator, export_vae
from opensora_adacache.scenes.fidelity import check_channels, check_frames, heldout_clips
from opensora_adacache.scenes.generator import Average, Generator
from opensora_adacache.scenes.latents import encode_kept
from opensora_adacache.scenes.pool import CHUNK, Pool
from opensora_adacache.scenes.prompts import heldout_prompts
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import SpatialRecipe, train_spatial
from opensora_adacache.scenes.stage import Budget
from opensora_adacache.scenes.temporal import TemporalRecipe, train_temporal
from opensora_adacache.scenes.text import MAX_TOKENS, build_tokenizer
from opensora_adacache.scenes.transformer import GeneratorRecipe, train_generator
from opensora_adacache.scenes.words import BASE_SIZE, FPS, NUM_FRAMES
from opensora_adacache.schedulers.rectified_flow import RFLOW

# Reserved for the last export and the samples.
RESERVE_SECONDS = 22.0
STAGES = ("spatial", "temporal", "transformer")
# What the spatial VAE must reach on held-out frames, and what every latent channel must add to the PSNR of held-out
# clips, in dB.
LEAST_PSNR, LEAST_GAIN = 24.0, 0.2


@dataclass(frozen=True)
class Recipe:
    """Duration and sizes of the training; on a CPU the batches are smaller.

    Attributes:
        minutes: wall time, over all runs in one folder.
        shares: fractions of that time for the spatial and the temporal part of the VAE; the transformer gets the rest.
        steps: numbers of steps of the three stages in place of the time.
        stages: the stages to run; those that a later one needs must be finished or among them.
        size: height and width of the clips in pixels.
        seed: seed of all random numbers.
    """

    minutes: float = 9.0
    shares: tuple[float, float] = (0.17, 0.26)
    steps: tuple[int, int, int] | None = None
    stages: tuple[str, ...] = STAGES
    size: int = BASE_SIZE
    seed: int = 0

    def parts(self, device: torch.device) -> tuple[SpatialRecipe, TemporalRecipe, GeneratorRecipe]:
        """Return the recipes of all stages for a device."""
        spatial = SpatialRecipe(seed=self.seed)
        temporal, generator = TemporalRecipe(seed=self.seed), GeneratorRecipe(seed=self.seed)
        if device.type == "cuda":
            return spatial, temporal, generator
        return (
            replace(spatial, clips=8, frames=1, crop_frames=1, warm_up=20),
            replace(temporal, windows=8, held=256, renew_every=32, clips=1, last_clips=1, frames=4, learning_rate=6e-4),
            replace(generator, batch=16, pool=32 * CHUNK, renew_every=12, warm_up=100),
        )

    def budget(self, stage: str, seconds: float | None = None) -> Budget:
        """Return the budget of a stage: its number of steps, its share of the time, or these seconds."""
        number = STAGES.index(stage)
        if self.steps:
            return Budget(steps=self.steps[number])
        return Budget(60 * self.minutes * self.shares[number] if seconds is None else seconds)


def _seconds_before(folder: Path, stage: str) -> float:
    path = folder / f"{stage}.pt"
    return float(torch.load(path, map_location="cpu", weights_only=True)["seconds"]) if path.exists() else 0.0


def train(
    recipe: Recipe, folder: Path, device: torch.device, compiled: bool, num_samples: int, start: float | None = None
) -> None:
    """Train the stages or resume them; write ``weights/`` at every checkpoint and ``samples.png`` at the end.

    Args:
        recipe: duration and sizes.
        folder: folder for checkpoints, losses and results.
        device: device to train on.
        compiled: whether to compile the transformer's blocks.
        num_samples: number of clips of held-out prompts to generate at the end.
        start: start time of the program, from ``time.monotonic``.

    Raises:
        TrainingError: a loss is not a number; on a GPU, the spatial VAE reconstructs too little, or a latent channel
            of the finished VAE carries nothing.
    """
    start = time.monotonic() if start is None else start
    before = {stage: _seconds_before(folder, stage) for stage in STAGES}
    deadline = start + 60 * recipe.minutes - sum(before.values())
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    # A block that cannot be compiled runs eagerly.
    torch_compiler_config.suppress_errors = True
    spatial_recipe, temporal_recipe, generator_recipe = recipe.parts(device)
    compiled = compiled and "transformer" in recipe.stages
    ahead = warm.start(generator_recipe.batch, recipe.size) if compiled and device.type == "cuda" else None
    target, render = folder / "weights", Renderer(device, recipe.size)
    # On a CPU the stages are too short for a demand on what they reach.
    demanding, clips = device.type == "cuda", heldout_clips(render, 6)

    def tell(what: str) -> None:
        print(f"{time.monotonic() - start:.0f} s: {what}", flush=True)

    vae = None
    try:
        tell("spatial VAE")
        spatial = train_spatial(spatial_recipe, folder, recipe.budget("spatial"), device, recipe.size)
        reached = check_frames(spatial, clips, LEAST_PSNR if demanding else -float("inf"))
        tell(f"spatial VAE trained; PSNR of held-out frames {reached}")
        if "temporal" in recipe.stages:
            tell("temporal decoder")
            vae = train_temporal(temporal_recipe, spatial, folder, recipe.budget("temporal"), device, recipe.size)
            export_vae(vae, target)
            reached = check_channels(vae, clips, LEAST_GAIN if demanding else -float("inf"))
            tell(f"VAE written; PSNR of held-out clips {reached}")
    finally:
        warm.finish(ahead)
    if "transformer" not in recipe.stages:
        return
    # The temporal stage has changed nothing but the decoder of the spatial part.
    pool = Pool(lambda frames: encode_kept(spatial, frames), render, generator_recipe.pool, recipe.seed)
    left = deadline - time.monotonic() - RESERVE_SECONDS
    average = train_generator(
        generator_recipe,
        pool,
        folder,
        recipe.budget("transformer", max(left + before["transformer"], 1.0)),
        compiled=compiled,
        fill_seconds=None if recipe.steps else max(0.09 * left, 1.0),
        on_save=lambda average: export_generator(average.copy(), target),
    )
    tell("transformer written")
    if num_samples and vae is not None:
        sheet(average, vae, num_samples, recipe.size, folder / "samples.png")
        tell("samples drawn")


class _Captions:
    """The text encoder in the form that the sampler expects, without prompt cleaning, which captions do not need."""

    def __init__(self, model: Generator, device: torch.device) -> None:
        self.inner = T5TextEncoder(model.text_encoder, build_tokenizer(), MAX_TOKENS)
        self.inner.attach_null(model.transformer.y_embedder.y_embedding)
        self.model, self.device = model, device

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        tokens = self.inner.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
        features, mask = self.model.read(tokens.input_ids.to(self.device))
        return {"y": features[:, None], "mask": mask}

    def null(self, n: int) -> Tensor:
        return self.inner.null(n)


@torch.no_grad()
def sample(average: Average, vae: OpenSoraVAE, prompts: list[str], size: int, steps: int = 30) -> Tensor:
    """Return clips [B, 3, F, H, W] in -1..1 for prompts, generated with guidance 3 from the noise of seed 0."""
    device = vae.device
    model = average.copy().to(device)
    shape = (len(prompts), vae.out_channels, *vae.latent_size((NUM_FRAMES, size, size)))
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(len(prompts))
    conditions = {"height": ones * size, "width": ones * size, "num_frames": ones * NUM_FRAMES, "fps": ones * FPS}
    scheduler = RFLOW(num_sampling_steps=steps, cfg_scale=3.0, use_timestep_transform=False)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        latents = scheduler.sample(
            model.transformer, _Captions(model, device), z, prompts, device, additional_args=conditions
        )
    return vae.decode(latents.float(), NUM_FRAMES).clamp(-1, 1)


def sheet(average: Average, vae: OpenSoraVAE, count: int, size: int, path: Path) -> None:
    """Draw five frames per clip of held-out prompts, two clips per row, and write the prompts next to the picture."""
    from PIL import Image

    prompts = heldout_prompts(count, seed=0)
    clips = sample(average, vae, [prompt for prompt, _ in prompts], size)
    frames = clips[:, :, :: NUM_FRAMES // 4].permute(0, 3, 2, 4, 1)  # [B, H, 5, W, 3]
    rows = frames.reshape(count, size, -1, 3).mul(127.5).add(127.5).round().byte().cpu().numpy()
    halves = [np.concatenate(list(rows[first::2])) for first in (0, 1)]
    height = min(map(len, halves))
    Image.fromarray(np.concatenate([half[:height] for half in halves], 1)).save(path)
    path.with_suffix(".txt").write_text("\n".join(prompt for prompt, _ in prompts) + "\n")
