"""Copy the losses of a training folder to docs/results/bundled_model/ and plot them.

python scripts/plot_training.py [--folder outputs/train_bundled] [--target docs/results/bundled_model]
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

STAGES = {
    "spatial": "spatial VAE: weighted L1 + L2 of pixels",
    "temporal": "temporal decoder: weighted L1 + L2 of spatial latents",
    "transformer": "STDiT3 and T5: squared error of the velocity",
}


def read_losses(path: Path) -> tuple[list[int], list[float], float]:
    """Return the steps, the losses and the minutes that the stage took."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [int(r["step"]) for r in rows], [float(r["loss"]) for r in rows], float(rows[-1]["seconds"]) / 60


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/train_bundled"), help="folder of the logs (default: %(default)s)"
    )
    parser.add_argument(
        "--target",
        type=Path,
        default=Path("docs/results/bundled_model"),
        help="folder to copy the losses to (default: %(default)s)",
    )
    return run_command(plot_training, parser.parse_args(arguments), errors=(ImportError,))  # matplotlib may be missing


def plot_training(args: argparse.Namespace) -> None:
    """Copy the losses and plot them."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "loss"
    import matplotlib.pyplot as plt

    args.target.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(STAGES), figsize=(11, 3), layout="constrained")
    for axis, (stage, title) in zip(axes, STAGES.items(), strict=True):
        source, copy = args.folder / f"{stage}.csv", args.target / f"{stage}.csv"
        if source.exists() and not (copy.exists() and copy.samefile(source)):
            shutil.copyfile(source, copy)
        steps, losses, minutes = read_losses(copy)
        axis.plot(steps, losses, linewidth=1)
        axis.set_yscale("log")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(f"step ({minutes:.0f} min)")
        axis.grid(alpha=0.3, which="both")
    figure.savefig(args.target / "loss.svg", metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
