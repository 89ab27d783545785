"""Print what each half of the next bundled model's VAE loses of drawn clips, and what each latent channel carries.

python scripts/experiments/measure_vae.py WEIGHTS [--num-prompts 12]

PSNR and outlines are of every fourth frame. A channel that can be set to its mean without a loss carries nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes.outline_error import read_outlines
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec
from opensora_adacache.scenes.words import NUM_FRAMES


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with vae")
    parser.add_argument("--num-prompts", type=int, default=12)
    return run_command(measure_vae, parser.parse_args(arguments))


@torch.no_grad()
def measure_vae(args: argparse.Namespace) -> None:
    """Draw clips, send them through the VAE and through its spatial half alone, and print what is left."""
    torch.set_num_threads(1)
    vae = OpenSoraVAE.from_pretrained(args.weights / "vae", dtype=torch.float32)
    renderer = Renderer()
    specs = [spec for _, spec in heldout_prompts(args.num_prompts)]
    clips = torch.stack([render_clip(spec, seed, renderer) for seed, spec in enumerate(specs)])
    drawn = clips[:, :, ::4]
    frame_latents, latents = vae.spatial_vae.encode(drawn), vae.encode(clips)

    def decode_frames(z: Tensor) -> Tensor:
        return vae.spatial_vae.decode(z).clamp(-1, 1)

    def decode_clips(z: Tensor) -> Tensor:
        return vae.decode(z, NUM_FRAMES)[:, :, ::4].clamp(-1, 1)

    print("| clips | PSNR | outline error | frames that keep their shape | objects |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| drawn | | {outline_cells(drawn, specs)} |")
    for name, made in (
        ("spatial half alone", decode_frames(frame_latents)),
        ("whole VAE", decode_clips(latents)),
    ):
        print(f"| {name} | {psnr(made, drawn):.1f} dB | {outline_cells(made, specs)} |", flush=True)
    print("\n| latents | channel set to its mean: 0 | 1 | 2 | 3 |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| spatial half alone | {' | '.join(without_channels(frame_latents, decode_frames, drawn))} |", flush=True)
    print(f"| whole VAE | {' | '.join(without_channels(latents, decode_clips, drawn))} |")


def without_channels(latents: Tensor, decode: Callable[[Tensor], Tensor], drawn: Tensor) -> list[str]:
    """Return the PSNR of clips decoded from latents [B, 4, T, h, w] with one channel at its mean, for each channel."""
    cells = []
    for channel in range(latents.shape[1]):
        changed = latents.clone()
        changed[:, channel] = latents[:, channel].mean()
        cells.append(f"{psnr(decode(changed), drawn):.1f} dB")
    return cells


def psnr(made: Tensor, drawn: Tensor) -> float:
    """Return the mean PSNR in dB of clips [B, 3, F, H, W] in -1..1."""
    errors = ((made - drawn) / 2).square().mean((1, 2, 3, 4))
    return float((-10 * errors.log10()).mean())


def outline_cells(clips: Tensor, specs: list[Spec]) -> str:
    """Return mean error, fraction kept and number of the outlines in clips [B, 3, F, H, W]."""
    found = [
        outline
        for clip, spec in zip(clips, specs, strict=True)
        for outline in read_outlines(
            clip.numpy(),
            {thing.colour: thing.shape for thing in spec.things},
            resizing=spec.kind in ("grow", "shrink"),
        )
    ]
    error, kept = (np.mean([getattr(outline, name) for outline in found]) for name in ("error", "kept"))
    return f"{error:.3f} | {100 * kept:.1f} % | {len(found)}"


if __name__ == "__main__":
    sys.exit(main())
