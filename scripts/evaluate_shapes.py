"""Print how often the embedded model does what held-out prompts ask.

python scripts/evaluate_shapes.py [--num-prompts 64] [--steps 30] [--guidance 3] [--weights FOLDER] [--output FILE.md]
"""

from __future__ import annotations

import argparse
import os
import platform
from datetime import date
from pathlib import Path

import torch

from opensora_adacache.schedulers.rectified_flow import RFLOW
from opensora_adacache.shapes.dataset import heldout_prompts
from opensora_adacache.shapes.evaluate import WEIGHTS, CheckedClip, ShapesModel, accuracy_table, check_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-prompts", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt-seed", type=int, default=0, help="another one draws other held-out prompts")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--output", type=Path, help="also write the report to this Markdown file")
    args = parser.parse_args()
    model = ShapesModel.load(args.weights)
    scheduler = RFLOW(args.steps, cfg_scale=args.guidance, use_timestep_transform=False)
    prompts = heldout_prompts(args.num_prompts, args.prompt_seed)
    clips = []
    for first in range(0, len(prompts), args.batch):
        texts = [text for text, _ in prompts[first : first + args.batch]]
        seeds = [args.seed + first + offset for offset in range(len(texts))]
        clips.append(model.decode(model.sample_latents(texts, seeds, scheduler)))
    checked = check_clips(prompts, torch.cat(clips))
    report = "\n".join(
        [
            "# What the embedded model does of what held-out prompts ask",
            "",
            f"{len(prompts)} prompts, {args.steps} steps, guidance {args.guidance:g}, no timestep transform, seeds "
            f"from {args.seed}. {date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
            f"Python {platform.python_version()}, torch {torch.__version__}.",
            "",
            accuracy_table(checked),
            "",
            "What was not as asked:",
            "",
            *(f"- {line}" for line in failures(checked)),
        ]
    )
    print(report)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(report + "\n")


def failures(checked: list[CheckedClip]) -> list[str]:
    """Describe every clip with something wrong: prompt, what is wrong, what was seen."""
    lines = []
    for item in checked:
        right, asked = item.score.right, item.score.asked
        wrong = [name for name in asked if right[name] != asked[name]]
        if wrong:
            things = [f"{o.colour} {o.shape} {o.speed} {o.direction or ''}".strip() for o in item.reading.objects]
            lines.append(f"{item.prompt}: {', '.join(wrong)} ({', '.join(things) or 'nothing'} was seen)")
    return lines


if __name__ == "__main__":
    main()
