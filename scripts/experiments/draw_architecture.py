"""Draw the figures of docs/guide/architecture.md: rooms, one denoising step, guidance branches.

python scripts/experiments/draw_architecture.py [--folder assets] [--suffix .svg]

The packages and their order are those of the import contract in pyproject.toml. This needs Python 3.11 and the extra
[eval] for matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib
import tomllib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

INK, FAINT, RULE = "#1f2933", "#66788a", "#c3ced9"
PLAIN, METHOD, METHOD_EDGE = "#f5f7fa", "#dbe8f5", "#2563a8"
REUSED, REUSED_EDGE = "#fdebdd", "#c2410c"
COLUMN = 30.0  # width of a lifeline's column

ROOMS = {
    "commands": "what the scripts run",
    "app": "the web app: two videos side by side",
    "testing": "tiny pipelines to try things on",
    "benchmark": "policies side by side: rows, tables, plots, page",
    "calibration": "traces to codebooks, thresholds, plans",
    "scenes": "the bundled model: data, training, checker",
    "generation": "a config to videos",
    "costs": "FLOPs, bytes, tokens",
    "adapters": "how a cache gets into a model: stdit3, opensora, diffusers",
    "config": "config files, prompts, resolutions",
    "caching": "policies, session,\nresiduals, trace",
    "models": "transformer,\nVAE, text",
    "schedulers": "samplers",
    "presets": "a model and a speedup to settings",
    "media": "files",
    "metrics": "quality",
    "parallel": "processes",
    "errors": "one-line errors",
}
HIGHLIGHTED = ("caching", "adapters")


def figure(width: float, height: float) -> tuple[Any, Any]:
    """Return a figure and its axes, in units of a tenth of an inch from the upper left corner."""
    canvas = plt.figure(figsize=(width / 10, height / 10))
    ax = canvas.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return canvas, ax


def box(ax: Any, x: float, y: float, width: float, height: float, face: str = PLAIN, edge: str = RULE) -> None:
    """Draw a rounded box from its upper left corner."""
    style = "round,pad=0,rounding_size=0.7"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=face, ec=edge, lw=1.2))


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float], color: str = INK, style: str = "-") -> None:
    """Draw an arrow."""
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=color, lw=1.1, ls=style, shrinkA=0,
                        shrinkB=0)
    )  # fmt: skip


def text(ax: Any, x: float, y: float, words: str, size: float = 9, color: str = INK, **style: Any) -> None:
    """Write text, centred on a point by default."""
    ax.text(x, y, words, size=size, color=color, **{"ha": "center", "va": "center", **style})


def draw_rooms() -> Any:
    """Draw the packages, with the highest layer at the top."""
    contracts = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.split(" | ") for layer in next(c for c in contracts if c["type"] == "layers")["layers"]]
    width, row, gap, left = 96.0, 5.0, 1.3, 8.0
    canvas, ax = figure(width, (row + gap) * len(layers) + 10)
    for number, rooms in enumerate(layers):
        y = 6 + number * (row + gap)
        span = (width - left - 3 - gap * (len(rooms) - 1)) / len(rooms)
        for column, room in enumerate(rooms):
            x = left + column * (span + gap)
            own = room in HIGHLIGHTED
            box(ax, x, y, span, row, METHOD if own else PLAIN, METHOD_EDGE if own else RULE)
            words, many = ROOMS[room], len(rooms) > 3
            text(ax, x + span / 2, y + (1.4 if many else 1.7), f"{room}/", 9.5, weight="bold")
            text(ax, x + span / 2, y + 3.4, words, 6.6 if many else 8.2, FAINT, linespacing=0.95)
    text(ax, left, 3, "A package imports only from packages below it; packages side by side do not know each other.",
         9.5, ha="left")  # fmt: skip
    bottom = 6 + len(layers) * (row + gap) - gap
    arrow(ax, (4, 6.5), (4, bottom - 0.5), FAINT)
    text(ax, 2.5, (6 + bottom) / 2, "imports", 9, FAINT, rotation=90)
    text(ax, left, bottom + 2.3, "models/ and schedulers/ know nothing of caching; caching/ knows no model.", 8.5,
         FAINT, ha="left")  # fmt: skip
    return canvas


LIFELINES = ("sampler", "model", "adapter", "session", "policy")
STEPS: tuple[tuple[str, str, str, str], ...] = (
    # from, to, what is said, style
    ("sampler", "model", "model([z, z], t)", "-"),
    ("model", "adapter", "wrapped forward", "-"),
    ("adapter", "session", "open the step", "-"),
    ("adapter", "session", "blocks are due: a StackView of x", "-"),
    ("session", "policy", "decide(view)", "-"),
    ("policy", "session", "compute or reuse, per group", "--"),
    ("compute", "", "", ""),
    ("session", "adapter", "these rows compute", "-"),
    ("adapter", "model", "run the blocks on x", "-"),
    ("adapter", "policy", "observe the probe's residual", "-"),
    ("adapter", "session", "keep x_out − x", "-"),
    ("reuse", "", "", ""),
    ("session", "adapter", "x + expected residual; no block runs", "-"),
    ("end", "", "", ""),
    ("session", "policy", "measurements, read once", "-"),
    ("policy", "session", "Decision: distance, rate", "--"),
    ("session", "session", "one StepRecord into the trace", "-"),
    ("model", "sampler", "final layer's output", "--"),
)


def draw_step() -> Any:
    """Draw the calls between sampler, model, adapter, session and policy in one step."""
    pitch, top = 3.1, 9.0
    width = COLUMN * (len(LIFELINES) - 1) + 24
    canvas, ax = figure(width, top + pitch * len(STEPS) + 6)
    places = {name: 12 + COLUMN * number for number, name in enumerate(LIFELINES)}
    bottom = top + pitch * len(STEPS) + 2
    for name, x in places.items():
        own = name in ("adapter", "session", "policy")
        ax.plot([x, x], [6, bottom], color=RULE, lw=1.2, zorder=0)
        box(ax, x - 7, 2, 14, 4, METHOD if own else PLAIN, METHOD_EDGE if own else RULE)
        text(ax, x, 4, name, 10.5, weight="bold")
    frames: list[tuple[str, float]] = []
    for number, (start, end, words, style) in enumerate(STEPS):
        y = top + pitch * number
        if not end:
            frames.append((start, y))
        elif start == end:
            box(ax, places[start] - 12.5, y - 1.2, 25, 2.4)
            text(ax, places[start], y, words, 8.5)
        else:
            arrow(ax, (places[start], y), (places[end], y), style=style)
            text(ax, (places[start] + places[end]) / 2, y - 1.0, words, 8.5,
                 bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"})  # fmt: skip
    colors = {"compute": (METHOD, METHOD_EDGE), "reuse": (REUSED, REUSED_EDGE)}
    for (name, y), (_, end) in zip(frames, frames[1:], strict=False):
        face, edge = colors[name]
        box(ax, places["model"] - 9, y - 1.5, places["policy"] - places["model"] + 18, end - y - 0.4, "none", edge)
        box(ax, places["model"] - 9, y - 1.5, 9.5, 2.2, face, edge)
        text(ax, places["model"] - 4.25, y - 0.4, name, 8.5, edge, weight="bold")
    return canvas


def draw_branches() -> Any:
    """Draw which batch rows share a session and a decision if guidance takes one call or two."""
    canvas, ax = figure(104, 46)
    text(ax, 2, 3, "Guidance in one call", 11, ha="left", weight="bold")
    text(ax, 2, 5.6, "Open-Sora, Latte, CogVideoX, LTX-Video, Mochi, Allegro", 8.5, FAINT, ha="left")
    for left, title, faces in ((2, 'decision="batch"', (METHOD, METHOD)), (27, 'decision="sample"', (METHOD, REUSED))):
        box(ax, left, 9, 22, 27, "none", METHOD_EDGE)
        text(ax, left + 11, 11, "one session", 8.5, FAINT)
        for row, words in enumerate(("prompt 1", "prompt 2", "null 1", "null 2")):
            box(ax, left + 3, 13.5 + 5.4 * row, 16, 4.4, faces[row % 2],
                METHOD_EDGE if faces[row % 2] == METHOD else REUSED_EDGE)  # fmt: skip
            text(ax, left + 11, 15.7 + 5.4 * row, words)
        text(ax, left + 11, 38.5, title, 9.5, family="monospace")
    text(ax, 13, 41.5, "one decision for the batch", 8.5, FAINT)
    text(ax, 38, 41.5, "one decision per video (colour)", 8.5, FAINT)
    text(ax, 55, 3, "Guidance in two calls", 11, ha="left", weight="bold")
    text(ax, 55, 5.6, "Wan, HunyuanVideo", 8.5, FAINT, ha="left")
    for left, title in ((55, "cond"), (80, "uncond")):
        box(ax, left, 9, 22, 27, "none", METHOD_EDGE)
        text(ax, left + 11, 11, "one session", 8.5, FAINT)
        for row in range(2):
            box(ax, left + 3, 13.5 + 5.4 * row, 16, 4.4, METHOD, METHOD_EDGE)
            text(ax, left + 11, 15.7 + 5.4 * row, f"{'prompt' if title == 'cond' else 'null'} {row + 1}")
        text(ax, left + 11, 30, "own steps, decisions\nand residuals", 8.5, FAINT)
        text(ax, left + 11, 38.5, f'cache_context("{title}")', 9.5, family="monospace")
    text(ax, 79, 41.5, "session.branches", 8.5, FAINT, family="monospace")
    return canvas


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description="Draw the figures of docs/guide/architecture.md.")
    parser.add_argument("--folder", type=Path, default=Path("assets"), help="default: %(default)s")
    parser.add_argument("--suffix", default=".svg", help="format of the files (default: %(default)s)")
    return run_command(draw_figures, parser.parse_args(arguments))


def draw_figures(options: argparse.Namespace) -> None:
    """Draw each figure into its file."""
    plt.rcParams["svg.hashsalt"] = "opensora-adacache"  # makes the files reproducible
    for name, drawing in (("rooms", draw_rooms), ("step", draw_step), ("branches", draw_branches)):
        metadata = {"Date": None} if options.suffix == ".svg" else None
        drawing().savefig(options.folder / f"{name}{options.suffix}", metadata=metadata, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
