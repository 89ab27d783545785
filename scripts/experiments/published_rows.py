"""Write docs/results/published.md: what papers print for Open-Sora 1.2 at 480p, from the package's data.

python scripts/experiments/published_rows.py [--page PAGE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opensora_adacache.benchmark.published import READINGS, PublishedRow, published_rows, published_sources
from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

ROOT = Path(__file__).parents[2]
HEAD = """# What papers print for Open-Sora 1.2

Made by `python scripts/experiments/published_rows.py` from `opensora_adacache/benchmark/published_rows.json` and the
AdaCache rows of `opensora_adacache/benchmark/paper_tables.json`.

**Every figure on this page is quoted. None was measured here**, and no claim of this repository about which policy is
better rests on it: such claims use [measured rows](forecast_cache.md) only, where all policies run on the same model,
prompts and seeds. The rows below do not. Devices, baselines, prompts and the counting of FLOPs differ from paper to
paper, so compare speedups within one source and seconds not at all. Where papers disagree about a method, all of their
rows stand.

Setting: 480p, 51 frames, 30 steps unless the notes say otherwise. PSNR, SSIM and LPIPS compare with the uncached video
of the same seed. Rows are sorted by speedup. An empty cell was not printed or not found.
"""
ABSENT = """## Not on this page

- EasyCache (2507.02860) names OpenSora in its abstract. Its repository prints tables for other models only.
- PreciseCache (2603.00976): the notes that were found have figures for Wan 2.1 and HunyuanVideo only.
- Foresight (2506.00329) reports up to 1.63× over several models. No row for 480p and 51 frames was found.
- NaviCache: a page that speaks for its authors gives 1.81× to 1.91× on Open-Sora from 480p, 51 frames to 720p, 102
  frames, without rows.
- FasterCache's own paper (2410.19355) measures 192 frames (1.62×, 27.03 dB on an A100), which is another setting.
"""


def number(value: float | None, form: str = "") -> str:
    """Return a cell."""
    return "" if value is None else f"{value:{form}}"


def figures(each: PublishedRow) -> str:
    """Return the row of the first table."""
    row, source = each.row, published_sources()[each.by]
    speedup = f"{row.speedup:.2f}×" if row.speedup else ""
    cells = [
        row.method,
        speedup,
        number(row.vbench, ".2f"),
        number(row.psnr, ".2f"),
        number(row.ssim, ".4g"),
        number(row.lpips, ".4g"),
        number(row.tflops, "g"),
        number(row.latency_s, ".2f"),
        source.device,
        each.by,
        source.read,
    ]
    return f"| {' | '.join(cells)} |"


def disagreements(rows: list[PublishedRow]) -> list[str]:
    """Return a row for each method with more than one source."""
    lines = []
    for method in sorted({each.row.method for each in rows}):
        same = [each for each in rows if each.row.method == method]
        if len(same) > 1:
            speedups = [f"{number(each.row.speedup, '.2f') or '–'} ({each.by})" for each in same]
            qualities = [f"{number(each.row.psnr, '.2f') or '–'} ({each.by})" for each in same]
            lines.append(f"| {method} | {', '.join(speedups)} | {', '.join(qualities)} |")
    return lines


def page() -> str:
    """Return the page in Markdown."""
    rows, sources = published_rows(), published_sources()
    lines = [
        HEAD,
        "| method | speedup | VBench, % | PSNR, dB | SSIM | LPIPS | TFLOPs | seconds | device | printed by | read in |",
        f"|{' --- |' * 11}",
        *map(figures, rows),
        "\n## Where papers disagree\n",
        "| method | speedup | PSNR, dB |",
        f"|{' --- |' * 3}",
        *disagreements(rows),
        "\n## Sources\n",
        "| printed by | source | device | uncached, seconds | read in | note |",
        f"|{' --- |' * 6}",
    ]
    for name, each in sources.items():
        cells = [name, each.source, each.device, number(each.baseline_s, ".2f"), each.read, each.note]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- **{reading}**: {meaning}." for reading, meaning in READINGS.items()), ""]
    return "\n".join([*lines, ABSENT])


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results/published.md", help="the page to write")
    return run_command(write, parser.parse_args(argv))


def write(options: argparse.Namespace) -> None:
    """Write the page."""
    options.page.write_text(page(), encoding="utf-8")
    print(f"wrote {options.page}")


if __name__ == "__main__":
    sys.exit(main())
