"""What another codebook would have done: ``python scripts/replay.py TRACE --codebook FILE``.

TRACE is the record beside a video that AdaCache made (or a trace alone), FILE a codebook as JSON, ``{"0.08": 6,
"1.0": 1}``, or a config with a cache section. Prints the schedule of the trace, the one the codebook is expected to
give on the same video, and a cache section that replays either as a fixed schedule.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, help="record beside a video, or a trace")
    parser.add_argument("--codebook", type=Path, required=True, help="JSON file with thresholds and rates, or a config")
    options = parser.parse_args(arguments)
    from opensora_adacache.caching.replay import replay_trace
    from opensora_adacache.caching.trace import computed_steps

    try:
        codebook = read_codebook(options.codebook)
        traces = read_traces(options.trace)
        predicted = [replay_trace(codebook, trace) for trace in traces]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for trace, steps in zip(traces, predicted, strict=True):
        for title, kept in (("trace", computed_steps(trace)), ("codebook", steps)):
            strip = "".join("#" if step in kept else "." for step in range(1, len(trace) + 1))
            print(f"{title:9}{len(kept):3d} of {len(trace)} [{strip}]")
            print(f'         cache = dict(type="Planned", steps={tuple(kept)})')
    return 0


def read_codebook(path: Path):
    """Return the codebook of a JSON file or of a config."""
    from opensora_adacache.caching.adacache import AdaCacheConfig
    from opensora_adacache.config import load_config

    if path.suffix == ".py":
        cache = load_config(path, {"prompt": ["any"]}).cache
        if not isinstance(cache, AdaCacheConfig):
            raise ValueError(f"'{path}' has no AdaCache section; name a config that has one, or a JSON codebook")
        return cache.codebook
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get("codebook", content)
    try:
        return AdaCacheConfig({float(threshold): rate for threshold, rate in content.items()}).codebook
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'\'{path}\' holds no codebook such as {{"0.08": 6, "1.0": 1}}: {error}') from None


def read_traces(path: Path):
    """Return the traces of a record, or the one that the file holds."""
    from opensora_adacache.caching.trace import trace_from_json

    content = read_json(path)
    traces = content.get("traces") if isinstance(content, dict) else [content]
    if not isinstance(traces, list) or not traces or not all(isinstance(t, list) and t for t in traces):
        raise ValueError(f"'{path}' holds no trace; name the .json beside a video that was made with a cache")
    return [trace_from_json(trace) for trace in traces]


def read_json(path: Path):
    """Read a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"'{path}' does not exist; correct the path") from None
    except ValueError:
        raise ValueError(f"'{path}' is not valid JSON") from None


if __name__ == "__main__":
    sys.exit(main())
