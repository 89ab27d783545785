"""Print what each half of the bundled model's VAE loses of drawn clips, and what each latent channel carries.

python scripts/experiments/measure_vae.py WEIGHTS [--num-prompts 12]

PSNR and outlines are of every third frame. A channel that can be set to its mean without a loss carries nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes.fidelity import outlines_of, psnr, without_channels
from opensora_adacache.scenes.prompts import heldout_prompts, render_clip
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.words import NUM_FRAMES


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with vae")
    parser.add_argument("--num-prompts", type=count, default=12)
    return run_command(measure_vae, parser.parse_args(arguments))


@torch.no_grad()
def measure_vae(args: argparse.Namespace) -> None:
    """Draw clips, send them through the VAE and through its spatial half alone, and print what is left."""
    torch.set_num_threads(1)
    vae = OpenSoraVAE.from_pretrained(args.weights / "vae", dtype=torch.float32)
    renderer = Renderer()
    specs = [spec for _, spec in heldout_prompts(args.num_prompts)]
    clips = torch.stack([render_clip(spec, seed, renderer) for seed, spec in enumerate(specs)])
    drawn = clips[:, :, ::3]
    frame_latents, latents = vae.spatial_vae.encode(drawn), vae.encode(clips)

    def decode_frames(z: Tensor) -> Tensor:
        return vae.spatial_vae.decode(z).clamp(-1, 1)

    def decode_clips(z: Tensor) -> Tensor:
        return vae.decode(z, NUM_FRAMES)[:, :, ::3].clamp(-1, 1)

    print("| clips | PSNR | outline error | frames that keep their shape | objects |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| drawn | | {outlines_of(drawn, specs)} |")
    for name, made in (
        ("spatial half alone", decode_frames(frame_latents)),
        ("whole VAE", decode_clips(latents)),
    ):
        print(f"| {name} | {psnr(made, drawn):.1f} dB | {outlines_of(made, specs)} |", flush=True)
    print(
        "\n| latents | all channels | channel set to its mean: " + " | ".join(map(str, range(vae.out_channels))) + " |"
    )
    print("| --- |" + " --- |" * (vae.out_channels + 1))
    for name, z, decode in (("spatial half alone", frame_latents, decode_frames), ("whole VAE", latents, decode_clips)):
        found = [psnr(decode(z), drawn), *without_channels(z, decode, drawn)]
        print(f"| {name} | {' | '.join(f'{value:.1f} dB' for value in found)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
