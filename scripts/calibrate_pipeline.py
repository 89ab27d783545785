"""Find a codebook for a pipeline of diffusers: ``python scripts/calibrate_pipeline.py MODEL --speedup X``.

MODEL is what ``DiffusionPipeline.from_pretrained`` takes. Each prompt is made once with every step computed while the
probe is watched; then the thresholds of a codebook are scaled by one factor until the schedules that they give compute
n / X steps on average over prompts and guidance branches.
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
    parser.add_argument("model", help="a folder or a name on the hub, as from_pretrained takes it")
    parser.add_argument("--speedup", type=speedup, required=True, help="target n / computed steps, on average")
    parser.add_argument("--num-sampling-steps", type=count, required=True, help="n, the pipeline's num_inference_steps")
    parser.add_argument("--prompt-path", type=Path, default=PROMPTS, help="prompts, one a line (default: %(default)s)")
    parser.add_argument("--limit", type=count, default=24, help="number of prompts (default: %(default)s)")
    parser.add_argument("--call", type=json.loads, default={}, help="more arguments of the call: '{\"height\": 480}'")
    parser.add_argument("--transformer", default="transformer", help="name of the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first prompt (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="add the settings to this .json file")
    options = parser.parse_args(arguments)
    options.command = typed_command("scripts/calibrate_pipeline.py", arguments)
    return run_command(calibrate_pipeline, options)


def calibrate_pipeline(options: argparse.Namespace) -> None:
    """Find the codebook; print it with the schedule of each recording, and write it."""
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
