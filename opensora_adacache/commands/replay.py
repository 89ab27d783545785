"""Predict the schedule of another codebook: ``opensora-adacache replay TRACE --codebook FILE``.

TRACE is the record beside a video that was made with AdaCache, or a bare trace. FILE is a codebook as JSON, such as
``{"0.08": 6, "1.0": 1}``, a calibrated setting ``FILE.json#NAME``, or a config with a cache section. This prints the
schedule of the trace, the one expected with the codebook on the same video, and a cache section that replays either as
a fixed schedule.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, path


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=path, help="record beside a video, or a bare trace")
    parser.add_argument("--codebook", required=True, help="JSON codebook, calibrated setting or config")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(replay, build_parser().parse_args(arguments))


def replay(options: argparse.Namespace) -> None:
    """Print both schedules of each trace."""
    from opensora_adacache.caching.replay import replay_trace
    from opensora_adacache.caching.trace import computed_steps
    from opensora_adacache.calibration.traces import planned_section, read_codebook, read_traces, schedule_line

    codebook = read_codebook(options.codebook)
    traces = read_traces(options.trace)
    predicted = [replay_trace(codebook, trace) for trace in traces]
    for trace, steps in zip(traces, predicted, strict=True):
        for title, kept in (("trace", computed_steps(trace)), ("codebook", steps)):
            print(schedule_line(title, kept, len(trace)))
            print(f"         {planned_section(kept)}")
