"""Calibrate a diffusers pipeline without a config: ``opensora-adacache calibrate-pipeline MODEL --speedup X …``.

MODEL is a folder or hub name for ``DiffusionPipeline.from_pretrained``. As ``calibrate`` does for a config, this
makes a few prompts with every step computed, finds the settings of each policy that reach the target, prints each as a
cache section, and adds them to the user's own calibrations, where the app finds them, and
``apply_cache(pipe, speedup=X)`` those of AdaCache and ForecastCache.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count, path, speedup
from opensora_adacache.config.paths import SHIPPED
from opensora_adacache.errors.shown import shown

PROMPTS = SHIPPED / "assets" / "texts" / "gallery.txt"


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="local folder or hub name of the pipeline")
    parser.add_argument("--speedup", type=speedup, nargs="+", required=True, help="target mean of n / computed steps")
    parser.add_argument("--num-sampling-steps", type=count, required=True, help="n, the pipeline's num_inference_steps")
    parser.add_argument(
        "--policy",
        nargs="+",
        default=["adacache"],
        help="policies, named as by 'opensora-adacache compare --list' (default: adacache, which needs the fewest "
        "runs; apply_cache prefers forecastcache where both have settings)",
    )
    parser.add_argument(
        "--prompt-path", type=path, default=PROMPTS, help="file of prompts, one per line (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=count, default=24, help="largest number of prompts to use (default: %(default)s)"
    )
    parser.add_argument("--call", type=_call, default={}, help="extra call arguments, such as '{\"height\": 480}'")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first prompt (default: %(default)s)")
    parser.add_argument(
        "--dtype", choices=("fp32", "fp16", "bf16"), help="dtype of the weights (default: bf16, on a CPU fp32)"
    )
    parser.add_argument("--offload", choices=("model", "group", "sequential"), help="keep idle weights on the CPU")
    parser.add_argument("--device-map", help="spread the components over several GPUs, such as 'balanced'")
    parser.add_argument("--out", type=path, help="JSON file to add the settings to")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = build_parser().parse_args(arguments)
    options.command = typed_command("scripts/calibrate_pipeline.py", arguments)
    return run_command(calibrate_pipeline, options)


def calibrate_pipeline(options: argparse.Namespace) -> int:
    """Find the settings, print and write each."""
    import torch

    from opensora_adacache.calibration.task import plan_task
    from opensora_adacache.commands.calibrate import run_task
    from opensora_adacache.config.load import pipeline_run

    section = {
        "from_pretrained": options.model,
        "call": {**options.call, "num_inference_steps": options.num_sampling_steps},
        "torch_dtype": options.dtype or ("bf16" if torch.cuda.is_available() else "fp32"),
        "offload": options.offload,
        "device_map": options.device_map,
    }
    config = pipeline_run(section, str(options.prompt_path), options.seed)
    task = plan_task(config, tuple(options.speedup), False, options.policy)
    return run_task(task, options.limit, options.out, options.command)


def _call(text: str) -> dict[str, Any]:
    """Read call arguments, a JSON object."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object such as '{{\"height\": 480}}', got {shown(text)}")
    return values
