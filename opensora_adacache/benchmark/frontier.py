"""Our policies beside the published ones at each speedup, paired by video, from the rows of benchmarks.

Settings must be named POLICY-SPEEDUPx. Settings named forecastcache-K, which compute K steps, are compared with the
setting adacache-fast.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from opensora_adacache.benchmark.results import RESULTS, ResultRow, read_results
from opensora_adacache.benchmark.table_files import markdown_table
from opensora_adacache.errors.shown import counted
from opensora_adacache.metrics.bootstrap import bootstrap_difference

OURS = ("forecastcache", "adacache-forecast")
Videos = Mapping[tuple[int, int], ResultRow]
"""Prompt number and seed → row, for one setting."""


def frontier_lines(folder: Path) -> Iterator[str]:
    """Yield the Markdown lines of one benchmark.

    They show the mean PSNR and computed steps of every policy, and for our policies the paired difference from the best
    published one and from AdaCache, with 95 % bootstrap intervals over prompts.

    Raises:
        OSError: the results cannot be read.
        ValueError: the file holds no results, or no setting is named POLICY-SPEEDUPx.
    """
    rows = read_results(folder / RESULTS)
    found: dict[float, dict[str, dict[tuple[int, int], ResultRow]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        policy, _, speedup = row.setting.rpartition("-")
        if speedup.endswith("x"):
            found[float(speedup[:-1])][policy][row.video_key] = row
    if not found:
        raise ValueError(f"'{folder}' has no settings named POLICY-SPEEDUPx; run a config of configs/shapes/frontier")
    lines = [cells for speedup, policies in sorted(found.items()) for cells in _policy_cells(speedup, policies)]
    columns = ("speedup", "policy", "computed steps", "PSNR, dB", "SSIM", "motion error, fast clips")
    yield f"## {counted(rows[0].num_steps, 'step')}, {counted(len({row.video_key for row in rows}), 'prompt')}"
    yield ""
    yield from markdown_table((*columns, "over the best published, dB", "over AdaCache, dB"), lines)
    yield ""
    yield from _beside_fast(rows)


def paired_difference(ours: Videos, theirs: Videos) -> str:
    """Return the mean PSNR difference in dB over the videos that both have, with its interval."""
    keys = sorted(ours.keys() & theirs.keys())
    one, other = ([_number(videos[key].psnr) for key in keys] for videos in (ours, theirs))
    interval = bootstrap_difference(one, other, [key[0] for key in keys])
    spread = "" if interval.low is None else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.mean:+.2f}{spread}"


def _policy_cells(speedup: float, policies: Mapping[str, Videos]) -> Iterator[Sequence[str]]:
    quality = {name: fmean(_number(row.psnr) for row in made.values()) for name, made in policies.items()}
    best = max((name for name in policies if name not in OURS), key=quality.__getitem__)
    for name in sorted(policies, key=lambda name: -quality[name]):
        made, ours = policies[name], name in OURS
        fast = [row.motion_error for row in made.values() if row.motion == "fast" and row.motion_error is not None]
        yield (
            f"{speedup:g}×",
            f"**{name}**" if ours else name,
            f"{fmean(row.computed_steps for row in made.values()):.2f}",
            f"{quality[name]:.2f}",
            f"{fmean(_number(row.ssim) for row in made.values()):.5f}",
            f"{fmean(fast):.4f}" if fast else "",
            paired_difference(made, policies[best]) if ours else ("best" if name == best else ""),
            paired_difference(made, policies["adacache"]) if ours and "adacache" in policies else "",
        )


def _beside_fast(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Yield the table of settings that compute fewer steps than AdaCache's fast codebook."""
    made: dict[str, dict[tuple[int, int], ResultRow]] = defaultdict(dict)
    for row in rows:
        made[row.setting][row.video_key] = row
    fast = made.get("adacache-fast")
    ours = [name for name in made if name.startswith("forecastcache-") and not name.endswith("x")]
    if not fast or not ours:
        return
    steps, lines = fmean(row.computed_steps for row in fast.values()), []
    for name in ("adacache-fast", *ours):
        videos = made[name].values()
        taken, psnr = fmean(row.computed_steps for row in videos), fmean(_number(row.psnr) for row in videos)
        ssim = fmean(_number(row.ssim) for row in videos)
        cells = (name, f"{taken:.2f}", f"{taken / steps:.3f}", f"{psnr:.2f}", f"{ssim:.5f}")
        lines.append((*cells, paired_difference(made[name], fast) if name in ours else ""))
    columns = (
        "setting",
        "computed steps",
        "fraction of AdaCache (fast)",
        "PSNR, dB",
        "SSIM",
        "over AdaCache (fast), dB",
    )
    yield from markdown_table(columns, lines)
    yield ""


def _number(value: float | None) -> float:
    if value is None:
        raise ValueError("a video has no PSNR or SSIM; run the benchmark with metrics = ('psnr', 'ssim')")
    return value
