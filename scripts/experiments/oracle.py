"""How far ForecastCache is from the best schedules: ``python scripts/experiments/oracle.py CONFIG [--limit N]``.

CONFIG is a benchmark config (configs/scenes/frontier/compare_30.py) with ForecastCache settings that have a budget. For
each of them, this searches for the best schedules with as many computed steps, on the same videos and with the same
forecast and corrector: one schedule for all videos (static), one for each video, and the best split of the steps
between the videos among the budgets that were searched. Quality is the PSNR between float frames and the uncached ones.
The result is a Markdown table. --out FILE.md writes it, and the schedules to FILE.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="benchmark config")
    parser.add_argument("--limit", type=count, default=8, help="number of prompts to use (default: %(default)s)")
    parser.add_argument("--rounds", type=count, default=40, help="moves to try in each search (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    return run_command(search, parser.parse_args(arguments))


def search(options: argparse.Namespace) -> None:
    """Search for the best schedules of each budget, then print and write the table."""
    from opensora_adacache.benchmark.config import load_comparison
    from opensora_adacache.benchmark.oracle import Bench, budget_settings, oracle_lines, search_budget
    from opensora_adacache.benchmark.table_files import write_study
    from opensora_adacache.benchmark.tasks import plan_tasks
    from opensora_adacache.media.files import write_file

    if options.rounds < 0:
        raise ValueError(f"--rounds must be at least 0, got {options.rounds}")
    comparison, tasks = plan_tasks(load_comparison(options.config), options.limit)
    settings = budget_settings(comparison)
    bench = Bench(comparison.run, [task.job for task in tasks])
    found = [search_budget(bench, setting.config.cache, options.rounds) for setting in settings]
    lines = oracle_lines(found, bench.num_steps, len(bench.jobs))
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/oracle.py {options.config} --limit {options.limit}"
        command += f" --rounds {options.rounds} --out {options.out}"
        write_study(options.out, "ForecastCache and the best schedules", command, lines)
        write_file(options.out.with_suffix(".json"), (json.dumps([vars(one) for one in found]) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
