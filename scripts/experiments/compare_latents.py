"""Train the spatial half of the VAE with different latents for the same number of steps, and print what each loses.

python scripts/experiments/compare_latents.py [--steps 300] [--latents 12x12x4 24x24x4 12x12x16]

It runs on the CPU. Checkpoints lie in FOLDER/LATENTS, and a repeated command goes on with them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAEConfig
from opensora_adacache.scenes.fidelity import outlines_of, psnr
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.latents import encode_frames
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.recipe import Recipe
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import train_spatial
from opensora_adacache.scenes.stage import Budget
from opensora_adacache.scenes.structure import VAE
from opensora_adacache.scenes.words import BASE_SIZE

CPU = torch.device("cpu")


def structures() -> dict[str, OpenSoraVAEConfig]:
    """Return a structure for each size of the latents of a frame."""
    return {"12x12x4": _four_levels(4), "12x12x16": _four_levels(16), "24x24x4": VAE}


def _four_levels(channels: int) -> OpenSoraVAEConfig:
    return replace(
        VAE,
        block_out_channels=(16, 32, 64, 96),
        temporal=replace(VAE.temporal, latent_channels=channels),
        shift=(0.0,) * channels,
        scale=(1.0,) * channels,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", nargs="+", choices=structures(), default=list(structures()))
    parser.add_argument("--steps", type=count, default=300)
    parser.add_argument("--num-prompts", type=count, default=12)
    parser.add_argument("--folder", type=Path, default=Path("outputs/compare_latents"))
    return run_command(compare_latents, parser.parse_args(arguments))


@torch.no_grad()
def compare_latents(args: argparse.Namespace) -> None:
    """Train each structure, send drawn frames through it, and print a row."""
    torch.set_num_threads(1)
    render = Renderer()
    specs = [spec for _, spec in heldout_prompts(args.num_prompts)]
    drawn = torch.stack([render_clip(spec, seed, render) for seed, spec in enumerate(specs)])[:, :, ::4]
    print("| latents of a frame | PSNR | outline error | frames that keep their shape | objects |")
    print("| --- | --- | --- | --- | --- |")
    for name in args.latents:
        recipe = replace(Recipe().parts(CPU)[0], structure=structures()[name])
        with torch.enable_grad():
            half = train_spatial(recipe, args.folder / name, Budget(steps=args.steps), CPU, BASE_SIZE)
        z = encode_frames(Halved(half, False), drawn.transpose(1, 2)).transpose(1, 2)
        made = half.decode(z.flatten(0, 1) / SPATIAL_SCALE).sample.unflatten(0, z.shape[:2]).transpose(1, 2)
        made = made.clamp(-1, 1)
        print(f"| {name} | {psnr(made, drawn):.1f} dB | {outlines_of(made, specs)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
