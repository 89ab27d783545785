"""Print by how much a caption with another direction or speed raises the loss of the bundled model's transformer.

python scripts/experiments/measure_motions.py WEIGHTS [--told speed] [--num-clips 32]

A model that draws what a caption says of a motion loses much with the opposite direction or with the next speed; one
that does not know it loses nothing. Without the first frame, places and shapes are uncertain as well; with it, the
motion is all that is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.scenes.captions import write_caption
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.evaluate import Model
from opensora_adacache.scenes.prompts import render_clip
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec
from opensora_adacache.scenes.transformer import add_noise
from opensora_adacache.scenes.words import BASE_SIZE, FPS, SPEEDS, TURNS, WAYS

KINDS = ("move", "bounce", "pan", "spin", "orbit")
TIMESTEPS = (700.0, 850.0, 950.0)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with transformer, vae and text_encoder")
    parser.add_argument("--told", choices=OTHERS, default="direction", help="what the wrong captions tell")
    parser.add_argument("--num-clips", type=count, default=32, help="clips of each kind of motion")
    return run_command(measure_motions, parser.parse_args(arguments))


@torch.no_grad()
def measure_motions(args: argparse.Namespace) -> None:
    """Draw held-out clips of each kind and print the losses of both captions."""
    torch.set_num_threads(1)
    model, renderer = Model.load(args.weights), Renderer()
    print("| clips | first frame | timestep | loss, right caption | wrong caption | more |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        specs = list(specs_of(kind, args.num_clips))
        z0 = model.vae.encode(torch.stack([render_clip(spec, seed, renderer) for seed, spec in enumerate(specs)]))
        others = [OTHERS[args.told](spec) for spec in specs]
        texts = [model.text_encoder.encode([write_caption(spec, 0) for spec in said]) for said in (specs, others)]
        for given in (False, True):
            for timestep in TIMESTEPS:
                right, wrong = (loss(model, z0, timestep, text, given) for text in texts)
                shown = "given" if given else "noisy"
                more = f"{100 * (wrong / right - 1):.1f} %"
                print(f"| {kind} | {shown} | {timestep:.0f} | {right:.4f} | {wrong:.4f} | {more} |", flush=True)


def specs_of(kind: str, number: int) -> Iterator[Spec]:
    """Generate held-out specs of a kind of motion."""
    rng = np.random.default_rng(0)
    while number:
        spec = draw_specs(rng, 1, held_out=True)[0]
        if spec.kind == kind:
            number -= 1
            yield spec


def turned(spec: Spec) -> Spec:
    """Return a spec with the opposite direction or turn."""
    if spec.direction in TURNS:
        return replace(spec, direction=next(name for name in TURNS if name != spec.direction))
    x, y = WAYS[str(spec.direction)]
    return replace(spec, direction=next(name for name, way in WAYS.items() if way == (-x, -y)))


def faster(spec: Spec) -> Spec:
    """Return a spec with the next faster speed, or with the next slower one of the fastest."""
    number = SPEEDS.index(str(spec.speed))
    return replace(spec, speed=SPEEDS[number + 1] if number + 1 < len(SPEEDS) else SPEEDS[number - 1])


OTHERS = {"direction": turned, "speed": faster}


def loss(model: Model, z0: Tensor, timestep: float, text: dict[str, Tensor], given: bool) -> float:
    """Return the mean squared error of the velocity in the frames that are not given."""
    noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(len(z0))
    seen, x_mask = add_noise(z0, noise, ones * timestep, int(given))
    out = model.transformer(
        seen,
        ones * timestep,
        **text,
        x_mask=x_mask,
        fps=ones * FPS,
        height=ones * BASE_SIZE,
        width=ones * BASE_SIZE,
    )
    return (out[:, : z0.shape[1]] - (z0 - noise))[:, :, int(given) :].square().mean().item()


if __name__ == "__main__":
    sys.exit(main())
