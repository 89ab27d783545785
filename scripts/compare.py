"""Compare caching policies: ``python scripts/compare.py CONFIG [--limit N] [--out DIR]`` or ``--list``.

Makes the videos of a comparison config (see configs/shapes/compare.py) with every setting, on the same prompts and
seeds, and writes DIR/results.jsonl, table.md, table.csv, table.tex and index.html. What is there already is not made
again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="a comparison config")
    parser.add_argument("--list", action="store_true", help="print the names of the policies and stop")
    parser.add_argument("--limit", type=int, help="take only the first N prompts")
    parser.add_argument("--out", type=Path, help="folder of the results (default: outputs/compare/CONFIG)")
    options = parser.parse_args(arguments)
    if options.list:
        from opensora_adacache.caching.registry import COMMAND_NAMES

        print("\n".join(COMMAND_NAMES))
        return 0
    if options.config is None:
        parser.error("expected a comparison config, or --list")
    command = "python scripts/compare.py " + " ".join(sys.argv[1:] if arguments is None else arguments)
    out = options.out or Path("outputs/compare") / Path(options.config).stem
    try:
        return compare(options.config, out, options.limit, command)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def compare(config: str, out: Path, limit: int | None, command: str) -> int:
    """Make what is missing, then the report."""
    from tqdm import tqdm

    from opensora_adacache.benchmark.config import load_comparison
    from opensora_adacache.benchmark.runner import RESULTS, ComparisonRun

    run = ComparisonRun(load_comparison(config), out, limit, command)
    total = run.num_missing
    bar = tqdm(total=total, desc="videos", unit="video", disable=not sys.stderr.isatty())
    try:
        with bar:
            run.run(progress=bar.update)
    except KeyboardInterrupt:
        made = f"{total - run.num_missing} of {total} missing videos are in '{out / RESULTS}'"
        print(f"\ninterrupted: {made}; run the same command again to go on")
        return 130
    from opensora_adacache.benchmark.report.bench import write_report

    write_report(out)
    print((out / "table.md").read_text(encoding="utf-8"))
    print(f"{total} videos made; table and page: {out / 'table.md'}, {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
