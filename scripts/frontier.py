"""Hold our policies against the published ones at each speedup, video by video: ``python scripts/frontier.py DIR…``.

Each DIR is a folder of scripts/compare.py whose settings are named POLICY-SPEEDUPx. Prints a Markdown table for each:
mean PSNR and computed steps of every policy, and the paired difference to the best published one and to AdaCache with
its 95 % bootstrap interval over prompts. Settings forecastcache-K are held against one named adacache-fast.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

OURS = ("forecastcache", "adacache-forecast")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of scripts/compare.py")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    options = parser.parse_args(arguments)
    from opensora_adacache.media.files import write_file

    try:
        text = "\n".join(line for folder in options.folders for line in table(folder))
        print(text)
        if options.out:
            command = f"python scripts/frontier.py {' '.join(map(str, options.folders))} --out {options.out}"
            head = f"# Forecasts against the published policies\n\nMade by `{command}`.\n\n"
            write_file(options.out, (head + text).encode())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def table(folder):
    """Return the lines of one folder's table."""
    from opensora_adacache.benchmark.results import read_results

    rows = read_results(folder / "results.jsonl")
    found = defaultdict(lambda: defaultdict(dict))  # speedup → policy → (prompt, seed) → row
    for row in rows:
        policy, _, speedup = row.setting.rpartition("-")
        if speedup.endswith("x"):
            found[float(speedup[:-1])][policy][row.video_key] = row
    if not found:
        raise ValueError(f"{folder} has no settings named POLICY-SPEEDUPx")
    steps, videos = rows[0].num_steps, len({row.video_key for row in rows})
    yield f"## {steps} steps, {videos} prompts"
    yield ""
    columns = ("speedup", "policy", "computed steps", "PSNR, dB", "SSIM", "motion error, fast clips")
    yield f"| {' | '.join(columns)} | to the best published, dB | to AdaCache, dB |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for speedup, policies in sorted(found.items()):
        published = {
            name: fmean(row.psnr for row in made.values()) for name, made in policies.items() if name not in OURS
        }
        best = max(published, key=published.get)
        for name, made in sorted(policies.items(), key=lambda item: -fmean(row.psnr for row in item[1].values())):
            fast = [row.motion_error for row in made.values() if row.motion == "fast" and row.motion_error is not None]
            cells = [
                f"{speedup:g}×",
                f"**{name}**" if name in OURS else name,
                f"{fmean(row.computed_steps for row in made.values()):.2f}",
                f"{fmean(row.psnr for row in made.values()):.2f}",
                f"{fmean(row.ssim for row in made.values()):.5f}",
                f"{fmean(fast):.4f}" if fast else "",
                difference(made, policies[best]) if name in OURS else ("best" if name == best else ""),
                difference(made, policies["adacache"]) if name in OURS and "adacache" in policies else "",
            ]
            yield f"| {' | '.join(cells)} |"
    yield ""
    yield from beside_fast(rows)


def beside_fast(rows):
    """Return the lines of the table of fewer steps than AdaCache's fast codebook computes."""
    made = defaultdict(dict)
    for row in rows:
        made[row.setting][row.video_key] = row
    fast = made.get("adacache-fast")
    ours = [name for name in made if name.startswith("forecastcache-") and not name.endswith("x")]
    if not fast or not ours:
        return
    yield "| setting | computed steps | of AdaCache (fast) | PSNR, dB | SSIM | to AdaCache (fast), dB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    steps = fmean(row.computed_steps for row in fast.values())
    for name in ("adacache-fast", *ours):
        videos = made[name].values()
        taken = fmean(row.computed_steps for row in videos)
        cells = (name, f"{taken:.2f}", f"{taken / steps:.3f}", f"{fmean(row.psnr for row in videos):.2f}")
        cells = (*cells, f"{fmean(row.ssim for row in videos):.5f}")
        yield f"| {' | '.join(cells)} | {difference(made[name], fast) if name in ours else ''} |"
    yield ""


def difference(ours, theirs):
    """Return the mean paired difference of PSNR with its interval."""
    from opensora_adacache.benchmark.bootstrap import bootstrap_difference

    keys = sorted(ours.keys() & theirs.keys())
    interval = bootstrap_difference(
        [ours[key].psnr for key in keys], [theirs[key].psnr for key in keys], [key[0] for key in keys]
    )
    spread = "" if interval.low is None else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.mean:+.2f}{spread}"


if __name__ == "__main__":
    sys.exit(main())
