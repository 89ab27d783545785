"""Find a codebook for a diffusers pipeline: ``python scripts/calibrate_pipeline.py MODEL --speedup X``.

MODEL is a folder or hub name for ``DiffusionPipeline.from_pretrained``. Each prompt is run once with every step
computed, and the probe is recorded. Then one factor scales the thresholds of a codebook so that the resulting schedules
compute n / X steps on average over prompts and guidance branches.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count, speedup

PROMPTS = Path(__file__).resolve().parent.parent / "assets" / "texts" / "gallery.txt"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="local folder or hub name of the pipeline")
    parser.add_argument("--speedup", type=speedup, required=True, help="target mean of n / computed steps")
    parser.add_argument("--num-sampling-steps", type=count, required=True, help="n, the pipeline's num_inference_steps")
    parser.add_argument("--prompt-path", type=Path, default=PROMPTS, help="prompts, one a line (default: %(default)s)")
    parser.add_argument("--limit", type=count, default=24, help="number of prompts to use (default: %(default)s)")
    parser.add_argument("--call", type=json.loads, default={}, help="extra call arguments, such as '{\"height\": 480}'")
    parser.add_argument("--transformer", default="transformer", help="component to cache (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first prompt (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to add the settings to")
    options = parser.parse_args(arguments)
    options.command = typed_command("scripts/calibrate_pipeline.py", arguments)
    return run_command(calibrate_pipeline, options)


def calibrate_pipeline(options: argparse.Namespace) -> None:
    """Find the codebook, print it with the schedule of each recording, and write it."""
    from opensora_adacache.caching.replay import replay
    from opensora_adacache.calibration.calibrator import starting_settings
    from opensora_adacache.calibration.pipeline import PipelineRun, read_lines
    from opensora_adacache.calibration.results import CalibratedOutput, Found
    from opensora_adacache.calibration.search import calibrate, mean_computed_steps
    from opensora_adacache.calibration.traces import schedule_line

    num_steps, output = options.num_sampling_steps, None
    if options.out:
        output = CalibratedOutput(options.out, options.model, num_steps, options.command)
    start = starting_settings("adacache")
    prompts = read_lines(options.prompt_path)[: options.limit]
    run = PipelineRun(options.model, num_steps, options.transformer, options.seed, options.call)
    recordings = run.record(start, prompts)
    found = calibrate(start, recordings, options.speedup)
    mean = mean_computed_steps(found, recordings)
    for recording in recordings:
        print(schedule_line("schedule", replay(found, recording), num_steps))
    print(f"mean {mean:.2f} of {num_steps} steps ({num_steps / mean:.2f}x)")
    print(f"codebook = {found.codebook}")
    if output:
        output.add({f"adacache-{options.speedup:g}x": Found(found, mean)})


if __name__ == "__main__":
    sys.exit(main())
