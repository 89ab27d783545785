"""Simulate how busy workers are that pull videos, beside a fixed division: ``… simulate_executors.py [TABLE.csv]``.

TABLE.csv is the table of a benchmark (`scripts/compare.py` writes it). From it come the computed steps of each policy
for each motion class, and the FLOPs of its videos; the prompts are held-out ones of the bundled data set.
The pull is that of the executors themselves (`parallel.pull`), with a clock in place of processes. Nothing is timed:
the time of a video is its FLOPs, and all else (loading, text, decoding) takes none.

Efficiency is the time that all workers need together, divided by their number times the time until the last one ends.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.parallel.executor import Lost, Made, Work
from opensora_adacache.parallel.pull import Died, Done, Event, Ready, pull

TABLE = Path("docs/results/bench/table.csv")
NUM_WORKERS = (8, 64)
# VBench: 944 different prompts, five videos each.
NUM_PROMPTS, NUM_SEEDS = 944, 5
POLICY = "adacache-2.5x-moreg"
# A short list.
SHORT = 320


@dataclass
class ClockPool:
    """Workers that only exist as times (see `parallel.pull.Pool`).

    Attributes:
        seconds: time of each piece of work on a worker of speed 1.
        speeds: place -> speed of the workers there; 1 for places without one.
        deaths: worker -> the time at which it dies, even if it is idle.
        now: the time of the last event.
        log: every piece that was given: (time, worker, index).
    """

    seconds: Sequence[float]
    speeds: Mapping[int, float] = field(default_factory=dict)
    deaths: Mapping[int, float] = field(default_factory=dict)
    now: float = 0.0
    log: list[tuple[float, int, int]] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)
    _events: list[tuple[float, int, Event]] = field(default_factory=list)
    _count: int = 0

    def start(self, worker: int, place: int) -> None:
        """Start a worker, which is ready at once."""
        self._places[worker] = place
        self._add(self.now, Ready(worker, f"place {place}"))
        if worker in self.deaths:
            self._add(self.deaths[worker], Died(worker, "was killed"))

    def give(self, worker: int, index: int) -> None:
        """Let a worker finish a piece of work after its time."""
        self.log.append((self.now, worker, index))
        end = self.now + self.seconds[index] / self.speeds.get(self._places[worker], 1.0)
        self._add(end, Made(worker, index))
        self._add(end, Done(worker))

    def wait(self) -> Event:
        """Return the next event. A worker that has died sends none."""
        while True:
            time, _, event = heapq.heappop(self._events)
            if event.worker in self._places:
                break
        self.now = max(self.now, time)
        if isinstance(event, Died):
            del self._places[event.worker]
        return event

    def stop(self, finished: bool) -> None:
        """Forget everything that would happen later."""
        self._events.clear()

    def _add(self, time: float, event: Event) -> None:
        self._count += 1  # events at the same time come in the order in which they were caused
        heapq.heappush(self._events, (time, self._count, event))


def end_of_pull(work: Sequence[Work[float]], num_workers: int, speeds: Mapping[int, float] | None = None) -> float:
    """Return the time at which the last worker ends. The item of a piece of work is its time."""
    pool = ClockPool([piece.item for piece in work], speeds or {})
    outcomes = list(pull(work, pool, num_workers))
    assert len(outcomes) == len(work) and not any(isinstance(outcome, Lost) for outcome in outcomes)
    return pool.now


def end_of_shares(shares: Sequence[Sequence[Work[float]]], speeds: Mapping[int, float] | None = None) -> float:
    """Return the time at which the last worker ends if each gets a share before the start."""
    speeds = speeds or {}
    return max(sum(piece.item for piece in share) / speeds.get(place, 1.0) for place, share in enumerate(shares))


def efficiencies(
    work: Sequence[Work[float]], num_workers: int, speeds: Mapping[int, float] | None = None
) -> dict[str, float]:
    """Return the efficiency of each way to divide the work."""
    size = -(-len(work) // num_workers)
    equal = [Work(piece.name, 0.0, piece.item) for piece in work]
    ends = {
        "every n-th": end_of_shares([work[rank::num_workers] for rank in range(num_workers)], speeds),
        "ranges": end_of_shares([work[rank * size : (rank + 1) * size] for rank in range(num_workers)], speeds),
        "pull, in order": end_of_pull(equal, num_workers, speeds),
        "pull, longest first": end_of_pull(work, num_workers, speeds),
    }
    capacity = sum((speeds or {}).get(place, 1.0) for place in range(num_workers))
    total = sum(piece.item for piece in work)
    return {name: total / (capacity * end) for name, end in ends.items()}


class RecordedSteps:
    """The measured rows of a benchmark's table.

    Args:
        path: table as CSV.

    Raises:
        ValueError: the file is not such a table.
    """

    def __init__(self, path: Path) -> None:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("source") == "measured"]
        if not rows or not {"setting", "tflops", "computed_steps", "steps_still"} <= rows[0].keys():
            raise ValueError(f"'{path}' is not the table of a benchmark with motion classes; name a table.csv")
        self.rows = {row["setting"]: row for row in rows}
        if POLICY not in self.rows:
            raise ValueError(f"'{path}' has no measured row '{POLICY}'; name docs/results/bench/table.csv")

    def seconds(self, setting: str, motion: str) -> float:
        """Return the time of a video: the FLOPs of its policy, in proportion to the steps of its motion class."""
        row = self.rows[setting]
        return float(row["tflops"]) * float(row[f"steps_{motion}"]) / float(row["computed_steps"])

    def expected(self, setting: str) -> float:
        """Return what is known of the time before: the mean of the policy."""
        return float(self.rows[setting]["tflops"])


def simulate(path: Path) -> list[str]:
    """Return the tables as lines of Markdown."""
    from opensora_adacache.benchmark.table_files import markdown_table
    from opensora_adacache.scenes.prompts import heldout_prompts

    recorded = RecordedSteps(path)
    motions = [spec.speed for _, spec in heldout_prompts(NUM_PROMPTS, seed=41)]
    one = [
        Work(str(i), 1.0, recorded.seconds(POLICY, motion))
        for i, motion in enumerate(motions)
        for _ in range(NUM_SEEDS)
    ]
    mixed = [
        Work(f"{i} {setting}", recorded.expected(setting), recorded.seconds(setting, motion))
        for i, motion in enumerate(motions)
        for setting in recorded.rows
    ]
    slow = {n: dict.fromkeys(range(0, n, 8), 0.5) for n in NUM_WORKERS}
    policy, settings = f"`{POLICY}`", f"{len(recorded.rows)} settings, prompt after prompt"
    lists = [
        (f"{policy}, {len(one)} videos", one, {}),
        (f"{policy}, {SHORT} videos", one[:SHORT], {}),
        (f"{policy}, {len(one)} videos; every eighth worker at half speed", one, slow),
        (f"{settings}, {len(mixed)} videos", mixed, {}),
        (f"{settings}, {SHORT} videos", mixed[:SHORT], {}),
    ]
    table = []
    for title, work, speeds in lists:
        for n in NUM_WORKERS:
            found = efficiencies(work, n, speeds.get(n))
            table.append([title, str(n), *(f"{100 * value:.1f} %" for value in found.values())])
    names = list(efficiencies(one[:1], 1))
    return [
        "Simulated: no video was made and nothing was timed. Each figure is an efficiency: the time that all videos",
        "need together, divided by the time that the workers have until the last one ends.",
        "",
        *markdown_table(["videos", "workers", *names], table),
        "",
        f"- The lists stand for {NUM_PROMPTS} prompts of VBench, with {NUM_SEEDS} seeds or with every measured setting",
        f"  of `{path}`. The prompts themselves are held-out ones of the bundled data set.",
        "- A video takes the time of its FLOPs. They are the setting's in the table, in proportion to the recorded",
        "  computed steps of each motion class. The table has only means of these classes, so videos differ",
        "  more than here.",
        "- *Every n-th* and *ranges* are fixed divisions: process i of n makes every n-th video, as torchrun does,",
        "  or a range of the list, as scripts with a start and an end index do.",
        "- *Pull, in order* gives a free worker the next video of the list; *pull, longest first* is what we do.",
        "  All videos of one policy that decides during the run have the same expected cost, so the two are equal.",
        "- Half speed is an assumption: a device that is shared, throttled or older.",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", default=TABLE, help=f"table of a benchmark (default: {TABLE})")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    return run_command(print_simulation, parser.parse_args(arguments))


def print_simulation(options: argparse.Namespace) -> None:
    """Print the tables and write them."""
    from opensora_adacache.benchmark.table_files import write_study

    lines = simulate(options.table)
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/simulate_executors.py {options.table} --out {options.out}"
        write_study(options.out, "Pulling videos against a fixed division, simulated", command, lines)


if __name__ == "__main__":
    sys.exit(main())
