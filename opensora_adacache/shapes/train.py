"""Train the bundled model stage by stage: spatial VAE, temporal VAE, transformer with text encoder.

Every stage goes on from its last checkpoint in the folder, and a finished one is only loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.models.temporal_vae import TemporalVAE
from opensora_adacache.shapes.latents import SpatialCache, encode_spatial
from opensora_adacache.shapes.scene import SceneSpec
from opensora_adacache.shapes.train_spatial import SpatialRecipe, build_spatial, train_spatial
from opensora_adacache.shapes.train_temporal import TemporalRecipe, build_temporal, normalise_spatial, train_temporal
from opensora_adacache.shapes.train_transformer import Generator, TransformerRecipe, train_transformer

STAGES = ("spatial", "temporal", "transformer")


@dataclass(frozen=True)
class Recipe:
    """All stages of the 64x64 model.

    The VAE learns from `num_clips`. The transformer sees `num_transformer_clips` more, with more pairs among them: it
    learnt the pairs of a small set by heart.
    """

    num_clips: int = 4096
    num_transformer_clips: int = 16384
    transformer_pair_share: float = 0.75
    seed: int = 1
    spatial: SpatialRecipe = field(default_factory=SpatialRecipe)
    temporal: TemporalRecipe = field(default_factory=TemporalRecipe)
    transformer: TransformerRecipe = field(default_factory=TransformerRecipe)


def spatial_stage(recipe: Recipe, folder: Path) -> Any:
    """Return the trained spatial VAE whose scaled latents have mean 0 and deviation 1."""
    finished = folder / "spatial_normalised.pt"
    if finished.exists():
        vae = build_spatial()
        vae.load_state_dict(torch.load(finished, weights_only=True))
        return vae.eval()
    vae = train_spatial(recipe.spatial, folder)
    with torch.no_grad():
        sample = encode_spatial(vae, folder / "unnormalised", recipe.seed, 256)
    normalise_spatial(vae, sample.latents)
    torch.save(vae.state_dict(), finished)
    return vae


def spatial_cache(recipe: Recipe, folder: Path) -> SpatialCache:
    """Return the spatial latents of all training clips, with the reversed ones."""
    vae = spatial_stage(recipe, folder)
    return encode_spatial(vae, folder / "latents", recipe.seed, recipe.num_clips).with_reversed()


def temporal_stage(recipe: Recipe, folder: Path) -> TemporalVAE:
    """Return the trained temporal VAE."""
    finished = folder / "temporal_finished.pt"
    if finished.exists():
        vae = build_temporal()
        vae.load_state_dict(torch.load(finished, weights_only=True))
        return vae.eval()
    vae = train_temporal(recipe.temporal, spatial_cache(recipe, folder), folder)
    torch.save(vae.state_dict(), finished)
    return vae


@torch.no_grad()
def full_latents(recipe: Recipe, folder: Path) -> tuple[Tensor, Tensor, Tensor, SpatialCache]:
    """Return normalised latents [clips, 4, T, h, w], shift and scale [4] each, and the cache they come from."""
    cache = spatial_cache(recipe, folder)
    path = folder / "latents" / "full.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return stored["latents"], stored["shift"], stored["scale"], cache
    vae = temporal_stage(recipe, folder)
    raw = torch.cat([vae.encode(part.float())[0] for part in cache.latents.split(16)])
    shift, scale = raw.mean((0, 2, 3, 4)), raw.std((0, 2, 3, 4))
    latents = (raw - shift[:, None, None, None]) / scale[:, None, None, None]
    torch.save({"latents": latents, "shift": shift, "scale": scale}, path)
    return latents, shift, scale, cache


@torch.no_grad()
def transformer_latents(recipe: Recipe, folder: Path) -> tuple[Tensor, list[SceneSpec]]:
    """Return the normalised latents [clips, 4, T, h, w] that the transformer learns from, and what they show."""
    first, shift, scale, cache = full_latents(recipe, folder)
    spatial, more = spatial_stage(recipe, folder), folder / "latents_more"
    added = encode_spatial(
        spatial, more, recipe.seed + 1, recipe.num_transformer_clips, pair_share=recipe.transformer_pair_share
    ).with_reversed()
    path = more / "full.pt"
    if not path.exists():
        vae = temporal_stage(recipe, folder)
        raw = torch.cat([vae.encode(part.float())[0] for part in added.latents.split(16)])
        torch.save((raw - shift[:, None, None, None]) / scale[:, None, None, None], path)
    return torch.cat([first, torch.load(path, weights_only=True)]), cache.specs + added.specs


def transformer_stage(recipe: Recipe, folder: Path) -> Generator:
    """Return the trained transformer and text encoder (averaged weights)."""
    latents, specs = transformer_latents(recipe, folder)
    print(f"{len(latents)} clips of latents {tuple(latents.shape[1:])}", flush=True)
    return train_transformer(recipe.transformer, latents, specs, folder)
