"""Fit the temporal half of the VAE to eight clips that turn and move: can it keep their outlines at all?

python scripts/experiments/fit_few_clips.py outputs/train_bundled/spatial.pt [--steps 100] [--random-start]

The clips are windows of 56x56 pixels on top of a trained spatial half; it takes two minutes on one core. Prints what is
left of the outlines at the start, in the middle and at the end, and writes truth above reconstruction to FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.models.temporal_vae import TemporalVAE
from opensora_adacache.models.vae import SPATIAL_SCALE
from opensora_adacache.scenes.fidelity import outlines_of, psnr
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.latents import encode_frames, normalise
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import build_spatial
from opensora_adacache.scenes.spec import Spec, Specs, Thing
from opensora_adacache.scenes.stage import descend, set_rate
from opensora_adacache.scenes.structure import VAE
from opensora_adacache.scenes.temporal import TemporalRecipe, build_temporal, restore
from opensora_adacache.scenes.words import BASE_SIZE, NUM_FRAMES

WINDOW = 56
CLIPS = (
    ("spin", "very fast", "clockwise", "red star", "black", "plain"),
    ("spin", "fast", "counterclockwise", "blue cross", "white", "plain"),
    ("move", "very fast", "right", "green arrow", "black", "checkered"),
    ("orbit", "very fast", "clockwise", "pink square", "gray", "plain"),
    ("spin", "steady", "clockwise", "yellow heart", "brown", "plain"),
    ("grow", "fast", None, "cyan moon", "black", "plain"),
    ("spin", "very fast", "clockwise", "orange square", "white", "striped"),
    ("bounce", "fast", "left", "purple triangle", "gray", "plain"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spatial", type=Path, help="checkpoint of the spatial stage")
    parser.add_argument("--steps", type=count, default=100)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--random-start", action="store_true", help="do not start by keeping every fourth frame")
    parser.add_argument("--folder", type=Path, default=Path("outputs/fit_few_clips"))
    return run_command(fit_few_clips, parser.parse_args(arguments))


def fit_few_clips(args: argparse.Namespace) -> None:
    """Train on two clips per step, and print what is left of the outlines."""
    torch.set_num_threads(1)
    specs = [
        Spec((Thing(*thing.split()),), ground, texture, kind, speed, direction, "alone")
        for kind, speed, direction, thing, ground, texture in CLIPS
    ]
    pixels, covered = windows(specs)
    spatial = build_spatial().eval().requires_grad_(False)
    spatial.load_state_dict(torch.load(args.spatial, weights_only=True)["model"])
    frames = Halved(spatial, False)
    normalise(spatial, encode_frames(frames, pixels))
    torch.manual_seed(0)
    temporal = TemporalVAE(VAE.temporal) if args.random_start else build_temporal()
    learners = nn.ModuleDict({"temporal": temporal, "decoder": spatial.decoder, "post": spatial.post_quant_conv})
    learners.requires_grad_(True)
    recipe, window = TemporalRecipe(noise=0.0), 4
    groups = [
        {"params": [*temporal.parameters()]},
        {"params": [*spatial.decoder.parameters(), *spatial.post_quant_conv.parameters()], "share": 0.3},
    ]
    optimizer = torch.optim.AdamW(groups, args.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    print("| step | PSNR | outline error | frames that keep their shape | objects |\n| --- | --- | --- | --- | --- |")
    for step in range(args.steps + 1):
        if step in (0, args.steps // 2, args.steps):
            made = reconstruct(spatial, temporal, frames, pixels)
            drawn = pixels.transpose(1, 2)
            print(f"| {step} | {psnr(made, drawn):.1f} dB | {outlines_of(made, specs)} |", flush=True)
        rng = np.random.default_rng(step)
        chosen = rng.permutation(len(specs))[:2]
        first = int(rng.integers(NUM_FRAMES - window + 1))
        set_rate(optimizer, args.rate * min((step + 1) / 30, 1.5 * (1 - step / args.steps), 1.0))
        loss, regularization = restore(
            recipe, frames, Halved(temporal, False), pixels[chosen], covered[chosen], slice(first, first + window)
        )
        descend(loss + regularization, learners, optimizer)
    args.folder.mkdir(parents=True, exist_ok=True)
    write(args.folder / ("random.png" if args.random_start else "kept.png"), pixels, made.transpose(1, 2))


def windows(specs: list[Spec]) -> tuple[Tensor, Tensor]:
    """Return windows of pixels and coverage [N, F, C, WINDOW, WINDOW] around the middle of each path."""
    scenes = place(Specs.of(specs), np.random.default_rng(0))
    pixels, covered = Renderer()(scenes)
    corners = np.clip(np.stack([scenes.y[:, 0].mean(1), scenes.x[:, 0].mean(1)], 1) - WINDOW / 2, 0, BASE_SIZE - WINDOW)
    cut = [
        (slice(None), slice(None), slice(top, top + WINDOW), slice(left, left + WINDOW))
        for top, left in corners.astype(int).tolist()
    ]
    return tuple(
        torch.stack([clip[part] for clip, part in zip(whole, cut, strict=True)]) for whole in (pixels, covered)
    )  # type: ignore[return-value]


@torch.no_grad()
def reconstruct(spatial: nn.Module, temporal: TemporalVAE, frames: Halved, pixels: Tensor) -> Tensor:
    """Return windows [N, 3, F, WINDOW, WINDOW] after encoding and decoding."""
    latents = temporal(encode_frames(frames, pixels))[0].transpose(1, 2)
    made = frames.call("decode", latents.flatten(0, 1) / SPATIAL_SCALE).sample
    return made.unflatten(0, pixels.shape[:2]).clamp(-1, 1).transpose(1, 2)


def write(path: Path, drawn: Tensor, made: Tensor) -> None:
    """Draw every second frame of windows [N, F, 3, WINDOW, WINDOW], four clips below each other in two columns."""
    rows = [torch.cat([torch.cat(list(part[clip, ::2]), 2) for part in (drawn, made)], 1) for clip in range(len(drawn))]
    half = len(rows) // 2
    picture = torch.cat([torch.cat(rows[:half], 1), torch.cat(rows[half:], 1)], 2)
    Image.fromarray(picture.permute(1, 2, 0).add(1).mul(127.5).byte().numpy()).save(path)


if __name__ == "__main__":
    sys.exit(main())
