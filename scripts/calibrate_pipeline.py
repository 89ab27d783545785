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
from statistics import fmean

RATES = {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1}
PROMPTS = Path(__file__).resolve().parent.parent / "assets" / "texts" / "gallery.txt"


def read_prompts(path: Path) -> list[str]:
    """Return the non-empty lines of a file."""
    prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"'{path}' has no prompt: write one a line")
    return prompts


def record_pipeline(options: argparse.Namespace, config, prompts: list[str]) -> list:
    """Return a recording for each prompt and guidance branch."""
    import torch
    from diffusers import DiffusionPipeline
    from tqdm import tqdm

    from opensora_adacache.adapters.recorder import record_branches

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    pipeline = DiffusionPipeline.from_pretrained(options.model).to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    steps = options.num_sampling_steps
    recordings = []
    for number, prompt in enumerate(tqdm(prompts, desc="recording", disable=not sys.stderr.isatty())):
        generator = torch.Generator(device).manual_seed(options.seed + number)
        with record_branches(getattr(pipeline, options.transformer), config, steps) as recorders:
            pipeline(
                prompt, num_inference_steps=steps, generator=generator, **{"output_type": "latent", **options.call}
            )
        recordings += [recorder.recording() for recorder in recorders.values()]
    return recordings


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description="Find a codebook for a pipeline of diffusers from uncached videos.")
    parser.add_argument("model", help="a folder or a name on the hub, as from_pretrained takes it")
    parser.add_argument("--speedup", type=float, required=True, help="wanted n / computed steps, on average")
    parser.add_argument("--num-sampling-steps", type=int, required=True, help="n, the pipeline's num_inference_steps")
    parser.add_argument("--prompt-path", type=Path, default=PROMPTS, help="prompts, one a line (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=24, help="number of prompts (default: %(default)s)")
    parser.add_argument("--call", type=json.loads, default={}, help="more arguments of the call: '{\"height\": 480}'")
    parser.add_argument("--transformer", default="transformer", help="name of the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first prompt (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    options = parser.parse_args(arguments)
    from opensora_adacache.caching.adacache import AdaCacheConfig
    from opensora_adacache.caching.replay import replay
    from opensora_adacache.calibration.search import calibrate
    from opensora_adacache.media.files import write_file

    try:
        config = AdaCacheConfig(RATES)
        recordings = record_pipeline(options, config, read_prompts(options.prompt_path)[: options.limit])
        found = calibrate(config, recordings, options.speedup)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    schedules = [replay(found, recording) for recording in recordings]
    mean = fmean(map(len, schedules))
    print(f"mean {mean:.2f} of {options.num_sampling_steps} steps ({options.num_sampling_steps / mean:.2f}x)")
    print(f"codebook = {found.codebook}")
    if options.out:
        result = {
            "model": options.model,
            "speedup": options.speedup,
            "codebook": {str(threshold): rate for threshold, rate in found.codebook.items()},
            "mean_computed_steps": mean,
            "schedules": schedules,
        }
        write_file(options.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
