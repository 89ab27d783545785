"""Train the VAE with different latents for the same number of steps on the CPU, and print what each loses.

python scripts/experiments/compare_latents.py [--steps 200 100] [--latents 12x12x4 24x24x4 12x12x16]

Checkpoints lie in FOLDER/LATENTS, and a repeated command goes on with them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.costs.flops import count_decoding
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE, OpenSoraVAEConfig
from opensora_adacache.scenes.fidelity import outlines_of, psnr
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.latents import encode_frames
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.recipe import Recipe
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import train_spatial
from opensora_adacache.scenes.stage import Budget
from opensora_adacache.scenes.structure import VAE
from opensora_adacache.scenes.temporal import train_temporal
from opensora_adacache.scenes.words import BASE_SIZE, NUM_FRAMES

CPU = torch.device("cpu")


def structures() -> dict[str, OpenSoraVAEConfig]:
    """Return a structure for each size of the latents of a frame; the last two decode with about the same FLOPs."""
    return {
        "12x12x4": _four_levels(32, 4),
        "12x12x16": _four_levels(64, 16),
        "24x24x4": VAE,
    }


def _four_levels(filters: int, channels: int) -> OpenSoraVAEConfig:
    return replace(
        VAE,
        block_out_channels=(16, 32, 64, 96),
        temporal=replace(VAE.temporal, filters=filters, latent_channels=channels),
        shift=(0.0,) * channels,
        scale=(1.0,) * channels,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", nargs="+", choices=structures(), default=list(structures()))
    parser.add_argument("--steps", type=int, nargs=2, default=(200, 100), help="of the spatial and the temporal stage")
    parser.add_argument("--num-prompts", type=int, default=12)
    parser.add_argument("--folder", type=Path, default=Path("outputs/compare_latents"))
    return run_command(compare_latents, parser.parse_args(arguments))


def compare_latents(args: argparse.Namespace) -> None:
    """Train each structure, send drawn clips through it, and print a row."""
    torch.set_num_threads(1)
    render = Renderer()
    specs = [spec for _, spec in heldout_prompts(args.num_prompts)]
    clips = torch.stack([render_clip(spec, seed, render) for seed, spec in enumerate(specs)])
    drawn = clips[:, :, ::4]
    print("| latents | part | PSNR | outline error | frames that keep their shape | objects | GFLOPs to decode |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in args.latents:
        structure = structures()[name]
        spatial_recipe, temporal_recipe, _ = Recipe().stages(CPU)
        spatial_recipe = replace(spatial_recipe, structure=structure)
        temporal_recipe = replace(temporal_recipe, structure=structure)
        folder = args.folder / name
        half = train_spatial(spatial_recipe, folder, Budget(steps=args.steps[0]), CPU, BASE_SIZE)
        with torch.no_grad():
            z = encode_frames(Halved(half, False), drawn.transpose(1, 2)).transpose(1, 2)
            made = half.decode(z.flatten(0, 1) / SPATIAL_SCALE).sample.unflatten(0, z.shape[:2]).transpose(1, 2)
        row(name, "spatial", made.clamp(-1, 1), drawn, specs, "")
        if args.steps[1]:
            vae = train_temporal(temporal_recipe, half, folder, Budget(steps=args.steps[1]), CPU, BASE_SIZE)
            with torch.no_grad():
                made = vae.decode(vae.encode(clips), NUM_FRAMES)[:, :, ::4]
            with torch.device("meta"):
                skeleton = OpenSoraVAE(structure, micro_batch_size=None)
            flops = count_decoding(skeleton, vae.latent_size((NUM_FRAMES, BASE_SIZE, BASE_SIZE)), NUM_FRAMES)
            row(name, "whole", made.clamp(-1, 1), drawn, specs, f"{flops / 1e9:.1f}")


def row(name: str, part: str, made: torch.Tensor, drawn: torch.Tensor, specs: list, flops: str) -> None:
    """Print a row of the table."""
    print(f"| {name} | {part} | {psnr(made, drawn):.1f} dB | {outlines_of(made, specs)} | {flops} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
