"""Draw the figure of the method: which steps run, what a step does, and how the next rate is chosen.

python scripts/experiments/draw_method.py [--output assets/method.svg]

The suffix of the output selects the format (.svg, .png, .pdf). This needs the extra [eval] for matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from opensora_adacache.caching.adacache import AdaCacheConfig, AdaCacheSchedule, SiteMeasurement
from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.config.calibrated import read_setting

try:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
except ImportError:
    raise SystemExit("error: drawing needs matplotlib: pip install 'opensora-adacache[eval]'") from None

INK, FAINT, RULE = "#1f2933", "#66788a", "#d5dde5"
COMPUTED, REUSED, REUSED_EDGE = "#2563a8", "#e6eef7", "#9fb8d3"
MOTION, MOTION_LIGHT = "#c2410c", "#fdebdd"

NUM_STEPS = 24
# Distances of an imaginary calm clip and an imaginary moving clip at each computed step after the first.
CALM = (0.05, 0.07, 0.12, 0.20)
MOVING = (0.27, 0.34, 0.30, 0.38, 0.30, 0.35, 0.27, 0.38)
CODEBOOK = read_setting("open_sora_1_2_30.json#adacache-fast").section["codebook"]


def computed_steps(distances: tuple[float, ...]) -> list[int]:
    """Return the computed steps (from 1) of AdaCache's schedule for these distances, followed by large ones."""
    schedule, steps = AdaCacheSchedule(AdaCacheConfig(CODEBOOK), NUM_STEPS), []
    measured = chain(distances, repeat(1.0))
    for step in range(1, NUM_STEPS + 1):
        if schedule.computes(step):
            # change since the last computed step; the schedule divides it by the current rate
            sites = [SiteMeasurement(next(measured) * schedule.rate, 1.0)] if steps else []
            schedule.end_computed_step(step, sites)
            steps.append(step)
    return steps


def box(ax: Any, x: float, y: float, width: float, height: float, face: str, edge: str, **style: Any) -> None:
    """Draw a rounded box from its lower left corner."""
    shape = f"round,pad=0,rounding_size={style.pop('rounding', 0.9)}"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=face, ec=edge, lw=1.2, **style))


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float], color: str = INK, **style: Any) -> None:
    """Draw an arrow; ``connectionstyle`` bends it."""
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=11, color=color, lw=1.3, shrinkA=0, shrinkB=0, **style
        )
    )


def heading(ax: Any, x: float, y: float, number: int, text: str) -> None:
    """Write the number and title of a section."""
    ax.text(x, y, f"{number}", color="white", weight="bold", size=11, ha="center", va="center",
            bbox={"boxstyle": "circle,pad=0.28", "fc": INK, "ec": INK})  # fmt: skip
    ax.text(x + 2.6, y, text, color=INK, weight="bold", size=13, va="center")


def draw_schedules(ax: Any, top: float) -> None:
    """Draw three rows of steps: the baseline, a calm clip, a moving clip."""
    heading(ax, 2.5, top, 1, "Only some denoising steps run the transformer")
    rows = (
        ("Baseline", "", list(range(1, NUM_STEPS + 1)), INK),
        ("AdaCache", "calm clip", computed_steps(CALM), INK),
        ("AdaCache + MoReg", "moving clip", computed_steps(MOVING), MOTION),
    )
    left, pitch, side = 25.0, 3.95, 3.25
    for row, (name, clip, steps, color) in enumerate(rows):
        y = top - 9.0 - row * 6.6
        ax.text(left - 2.0, y + side / 2 + (0.9 if clip else 0), name, color=color, size=11.5, ha="right", va="center")
        if clip:
            ax.text(left - 2.0, y + side / 2 - 1.1, clip, color=FAINT, size=9.5, ha="right", va="center")
        for step in range(1, NUM_STEPS + 1):
            runs = step in steps
            x = left + (step - 1) * pitch
            box(ax, x, y, side, side, COMPUTED if runs else REUSED, COMPUTED if runs else REUSED_EDGE, rounding=0.6)
            ax.text(x + side / 2, y + side / 2 - 0.05, str(step), color="white" if runs else FAINT, size=8.5,
                    ha="center", va="center")  # fmt: skip
        for before, after in zip(steps, steps[1:], strict=False):
            if after - before > 1:
                start = left + (before - 1) * pitch + side / 2
                end = left + (after - 2) * pitch + side / 2
                ax.plot([start, start, end, end], [y - 0.1, y - 0.95, y - 0.95, y - 0.1], color=REUSED_EDGE, lw=1.2)
        ax.text(left + NUM_STEPS * pitch + 0.8, y + side / 2, f"{len(steps)} / {NUM_STEPS}", color=INK, size=11.5,
                va="center")  # fmt: skip
    y = top - 0.6
    for x, face, edge, text in ((95.5, COMPUTED, COMPUTED, "computed"), (110.0, REUSED, REUSED_EDGE, "reused")):
        box(ax, x, y - 0.7, 1.9, 1.9, face, edge, rounding=0.4)
        ax.text(x + 2.8, y + 0.2, text, color=INK, size=10.5, va="center")


def draw_step(ax: Any, top: float) -> None:
    """Draw what a computed and a reused step do."""
    heading(ax, 2.5, top, 2, "What a step does")
    y, height = top - 14.5, 7.0
    ax.text(2, y + height + 2.1, "computed", color=COMPUTED, weight="bold", size=11)
    ax.text(3.0, y + height / 2, "$x$", color=INK, size=15, ha="center", va="center")
    arrow(ax, (4.6, y + height / 2), (7.6, y + height / 2))
    box(ax, 7.6, y, 31.5, height, "#f3f7fb", COMPUTED)
    for index in range(8):
        probe = index == 3
        box(ax, 9.0 + index * 3.65, y + 1.1, 2.75, height - 2.2, MOTION if probe else COMPUTED, "none", rounding=0.5)
    ax.text(9.0 + 3 * 3.65 + 1.37, y + height + 1.4, "probe: residual $p$", color=MOTION, size=10, ha="center")
    ax.text(39.1, y + height + 1.4, "block stack", color=COMPUTED, size=10, ha="right")
    ax.plot([9.0 + 3 * 3.65 + 1.37] * 2, [y + height - 1.0, y + height + 1.0], color=MOTION, lw=1.2)
    arrow(ax, (39.1, y + height / 2), (42.4, y + height / 2))
    ax.text(44.0, y + height / 2, "$x'$", color=INK, size=15, ha="center", va="center")

    store_x, store_y = 14.0, top - 23.0
    box(ax, store_x, store_y, 23.0, 4.4, "#fff9e8", "#d9b44a")
    ax.text(
        store_x + 11.5, store_y + 2.2, "cache: $r = x' - x$  and  $p$", color=INK, size=12, ha="center", va="center"
    )
    arrow(ax, (25.5, y), (25.5, store_y + 4.4))

    y = top - 32.0
    ax.text(2, y + 5.3, "reused", color=FAINT, weight="bold", size=11)
    ax.text(3.0, y + 1.5, "$x$", color=INK, size=15, ha="center", va="center")
    arrow(ax, (4.6, y + 1.5), (23.6, y + 1.5))
    ax.text(25.5, y + 1.4, "+", color=INK, size=15, ha="center", va="center",
            bbox={"boxstyle": "circle,pad=0.16", "fc": REUSED, "ec": REUSED_EDGE})  # fmt: skip
    arrow(ax, (25.5, store_y), (25.5, y + 3.4))
    arrow(ax, (27.4, y + 1.5), (41.6, y + 1.5))
    ax.text(45.0, y + 1.5, "$x + r$", color=INK, size=14, ha="center", va="center")
    note = "No block runs. One residual of the whole stack\nis kept, instead of two for each block."
    ax.text(2, y - 2.2, note, color=FAINT, size=10, va="top", linespacing=1.35)


def draw_decision(ax: Any, top: float) -> None:
    """Draw how a computed step chooses the next rate: distance, motion, codebook."""
    heading(ax, 57.5, top, 3, "How a computed step chooses the next rate")
    y, height = top - 17.0, 13.0
    boxes = ((57.0, 28.0, "#f3f7fb", COMPUTED), (93.0, 35.5, MOTION_LIGHT, MOTION))
    for x, width, face, edge in boxes:
        box(ax, x, y, width, height, face, edge)
    ax.text(58.4, y + height - 2.2, "Distance", color=COMPUTED, weight="bold", size=11.5, va="center")
    ax.text(71.0, y + 6.4, r"$c=\frac{\Vert p_{t+k}-p_t\Vert_1}{k\;\Vert p_t\Vert_1}$", color=INK, size=18,
            ha="center", va="center")  # fmt: skip
    ax.text(71.0, y + 1.7, "change per step at the probe", color=FAINT, size=9.5, ha="center", va="center")
    arrow(ax, (85.0, y + height / 2), (93.0, y + height / 2))
    ax.text(94.4, y + height - 2.2, "MoReg", color=MOTION, weight="bold", size=11.5, va="center")
    ax.text(110.75, y + 6.6, r"$c \leftarrow c\cdot(m+|\nabla m|)$", color=INK, size=15, ha="center", va="center")
    ax.text(110.75, y + 1.7, "motion $m$: difference between frames of $p$", color=FAINT, size=9.5, ha="center",
            va="center")  # fmt: skip
    draw_frames(ax, 117.4, y + height - 3.4)

    # The value flows from MoReg down into the codebook.
    plot_x, plot_y, plot_width, plot_height = 77.0, top - 35.8, 30.0, 13.0
    arrow(ax, (102.0, y), (102.0, plot_y + plot_height + 0.8))
    ax.text(58.4, plot_y + plot_height - 1.6, "Codebook", color=INK, weight="bold", size=11.5)
    note = "little change,\nlong skips"
    ax.text(58.4, plot_y + plot_height - 3.0, note, color=FAINT, size=9.5, va="top", linespacing=1.35)
    inset = ax.inset_axes((plot_x, plot_y, plot_width, plot_height), transform=ax.transData)
    edges = [0.0, *list(CODEBOOK)[:-1], 0.48]
    inset.stairs(list(CODEBOOK.values()), edges, fill=True, color="#cfe0f1")
    inset.stairs(list(CODEBOOK.values()), edges, color=COMPUTED, lw=1.8)
    inset.set(xlim=(0, 0.48), ylim=(0, 6.9), xticks=list(CODEBOOK)[:-1], yticks=[1, 3, 6])
    inset.set_xlabel("$c$", size=12, labelpad=-1, color=INK)
    inset.set_ylabel("rate $\\tau$", size=11, labelpad=2, color=INK)
    inset.tick_params(labelsize=8.5, colors=FAINT, length=2.5)
    inset.spines[["top", "right"]].set_visible(False)
    inset.spines[["left", "bottom"]].set_color(FAINT)
    arrow(ax, (109.0, plot_y + plot_height / 2), (114.5, plot_y + plot_height / 2))
    ax.text(116.0, plot_y + plot_height / 2, "the next\n$\\tau - 1$ steps\nreuse $r$", color=INK, size=12, va="center",
            linespacing=1.35)  # fmt: skip


def draw_frames(ax: Any, x: float, y: float) -> None:
    """Draw three frames of a moving dot with a line from each to the next."""
    for index in range(3):
        left = x + index * 3.5
        box(ax, left, y, 2.6, 2.2, "white", MOTION, rounding=0.3)
        ax.plot(left + 0.6 + index * 0.65, y + 1.1, "o", color=MOTION, ms=4.2)


def draw(output: Path) -> None:
    """Draw everything into a file."""
    # A fixed salt and no date make the file reproducible.
    plt.rcParams.update({"font.family": "DejaVu Sans", "svg.hashsalt": "method", "svg.fonttype": "path"})
    figure, ax = plt.subplots(figsize=(13, 7.6))
    ax.set(xlim=(0, 130), ylim=(0, 76), aspect="equal")
    ax.axis("off")
    draw_schedules(ax, 73.0)
    ax.plot([1, 129], [45.3, 45.3], color=RULE, lw=1.2)
    draw_step(ax, 41.5)
    ax.plot([52.5, 52.5], [2.0, 43.2], color=RULE, lw=1.2)
    draw_decision(ax, 41.5)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.995)
    metadata = {"Date": None} if output.suffix == ".svg" else None
    figure.savefig(output, facecolor="white", dpi=150, metadata=metadata)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("assets/method.svg"))
    return run_command(lambda options: draw(options.output), parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
