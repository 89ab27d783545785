"""Measure the model on this machine's GPU: ``python scripts/gpu_report.py OUT.json [--budget SECONDS] [--tiny]``.

The report covers parity with the reference vectors, a computed step at published size against the device's limits,
kernels, and runs with and without a cache, eager and compiled. Weights are random. OUT.json and OUT.md are written
after each section. Run it in the root of the repository. It needs torch, einops and safetensors, and diffusers for
the section on decoding.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

VECTORS = Path(__file__).parents[1] / "tests" / "data"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--budget", type=float, default=200.0, help="seconds after which no further section starts")
    parser.add_argument("--tiny", action="store_true", help="do a dry run with a small model on the CPU")
    parser.add_argument(
        "--baseline", type=Path, help="stored report: fail if this one is less accurate or slower (benchmark.gpu_gates)"
    )
    parser.add_argument("--attention-backend", default="auto", help="as in a config's model section (default: auto)")
    return run_command(report, parser.parse_args(arguments))


def report(options: argparse.Namespace) -> int:
    """Measure, and write the report after each section; return 1 if it fails a gate."""
    import torch

    from opensora_adacache.benchmark.gpu_gates import failed_gates
    from opensora_adacache.benchmark.gpu_report import GpuReport

    if not options.tiny and not torch.cuda.is_available():
        raise ValueError("no CUDA device found; pass --tiny for a dry run on the CPU")
    baseline = json.loads(options.baseline.read_text(encoding="utf-8")) if options.baseline else None
    found = GpuReport(options.out, VECTORS, options.tiny, options.budget, options.attention_backend).run()
    failed = [] if baseline is None else list(failed_gates(found, baseline))
    for line in failed:
        print(f"gate failed: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
