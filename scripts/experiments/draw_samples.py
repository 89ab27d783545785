"""Draw frames of finished runs side by side: ``python scripts/experiments/draw_samples.py RUN [RUN …] --out FILE``.

Each prompt is a row and each run a column, with the first, middle and last frame of every video.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser


def draw(folders: list[Path], out: Path, limit: int) -> None:
    """Write the picture.

    Raises:
        ValueError: a run is not finished.
        OSError: a run cannot be read or the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from opensora_adacache.benchmark.report.runs import read_run
    from opensora_adacache.media.reading import read_video

    runs = {folder.name: read_run(folder)[:limit] for folder in folders}
    num_rows = min(map(len, runs.values()))
    figure = plt.figure(figsize=(3.3 * len(runs), 1.45 * num_rows + 0.3))
    columns = figure.subfigures(1, len(runs))
    for column, (name, records) in zip([columns] if len(runs) == 1 else columns, runs.items(), strict=True):
        column.suptitle(name, fontsize=10, fontweight="bold", y=0.985)
        axes = column.subplots(num_rows, 3, squeeze=False)
        column.subplots_adjust(left=0.03, right=0.97, bottom=0.02, top=0.9, wspace=0.05, hspace=0.32)
        for row, record in zip(axes, records[:num_rows], strict=True):
            frames = read_video(record.path)
            for axis, index in zip(row, (0, frames.shape[1] // 2, frames.shape[1] - 1), strict=True):
                axis.imshow(((frames[:, index] + 1) / 2).permute(1, 2, 0).numpy(), interpolation="nearest")
                axis.axis("off")
            steps = f"{record.computed_steps} of {record.num_steps} steps computed"
            row[1].set_title(f"{record.prompt[:60]}\n{steps}" if name == next(iter(runs)) else steps, fontsize=6)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description="Draw frames of finished runs side by side.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders that run_sample_video.sh wrote")
    parser.add_argument("--out", type=Path, required=True, help="picture to write (.png)")
    parser.add_argument("--limit", type=int, default=4, help="number of prompts (default: %(default)s)")
    return run_command(draw_samples, parser.parse_args(arguments), errors=(ImportError,))  # matplotlib may be missing


def draw_samples(options: argparse.Namespace) -> None:
    """Draw the picture."""
    draw(options.folders, options.out, options.limit)


if __name__ == "__main__":
    sys.exit(main())
