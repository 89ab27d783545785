"""Writes the trained parts in the published layout: transformer/, vae/, text_encoder/, tokenizer/."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from opensora_adacache.models.text_encoder import T5TextEncoder
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.shapes.tokenizer import MAX_TOKENS
from opensora_adacache.shapes.train import Recipe, full_latents, spatial_stage, temporal_stage
from opensora_adacache.shapes.train_spatial import spatial_structure
from opensora_adacache.shapes.train_transformer import Generator

WEIGHTS = Path(__file__).parent / "weights"


def export_vae(recipe: Recipe, folder: Path, target: Path) -> None:
    """Join the two trained parts of the VAE and the statistics of its latents."""
    spatial, temporal = spatial_stage(recipe, folder), temporal_stage(recipe, folder)
    _, shift, scale, _ = full_latents(recipe, folder)
    config = replace(
        spatial_structure(), temporal=temporal.config, shift=tuple(shift.tolist()), scale=tuple(scale.tolist())
    )
    vae = OpenSoraVAE(config)
    vae.spatial_vae.module.load_state_dict(spatial.state_dict())
    vae.temporal_vae.load_state_dict(temporal.state_dict())
    vae.save_pretrained(target / "vae")


def load_average(checkpoint: Path) -> Generator:
    """Return the averaged weights of a checkpoint of the transformer stage, for sampling."""
    model = Generator()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["average"]["values"])
    return model.eval().requires_grad_(False)


def export_generator(model: Generator, target: Path) -> None:
    """Write transformer, text encoder and tokenizer; the transformer in float16, which halves its files."""
    T5TextEncoder(model.text_encoder, model.tokenizer, MAX_TOKENS).save_pretrained(target)
    model.transformer.half().save_pretrained(target / "transformer")
    model.transformer.float()


def export(recipe: Recipe, folder: Path, target: Path = WEIGHTS, stage: str = "transformer") -> None:
    """Write all parts from the checkpoints in a training folder."""
    export_vae(recipe, folder, target)
    export_generator(load_average(folder / f"{stage}.pt"), target)
