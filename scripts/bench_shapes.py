"""Measure the embedded model with and without caching.

``python scripts/bench_shapes.py [--num-prompts N] [--out FILE]``

Makes held-out prompts, none of which was used in training or calibration, with the three configs in configs/shapes, the
configs in turn on each prompt, and writes a Markdown report: what the checker reads right, computed steps, the
denoising loop's speedup (ratios within this one run), PSNR to the baseline, and computed steps by motion class.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import fmean, median

CONFIGS = ("sample", "sample_adacache", "sample_adacache_moreg")
SEED = 61


def measure(num_prompts: int, threads: int) -> dict:
    """Make the videos; return per config the clips' scores, loop seconds, computed steps and PSNR."""
    import torch
    from tqdm import tqdm

    from opensora_adacache.caching.trace import computed_steps
    from opensora_adacache.config import load_config
    from opensora_adacache.generation.jobs import plan_jobs
    from opensora_adacache.generation.loading import load_models
    from opensora_adacache.shapes.checker import read_clip, score_clip
    from opensora_adacache.shapes.dataset import heldout_prompts

    torch.set_num_threads(threads)
    prompts = heldout_prompts(num_prompts, seed=SEED)
    overrides = {"prompt": [prompt for prompt, _ in prompts], "save_dir": "unused", "batch_size": 1}
    configs = {name: load_config(f"configs/shapes/{name}.py", overrides) for name in CONFIGS}
    base = configs[CONFIGS[0]]
    jobs = plan_jobs(replace(base, overwrite=True))
    models = load_models(base, [text for job in jobs for text in job.texts], torch.device("cpu"))
    pipelines = {name: models.pipeline(config) for name, config in configs.items()}
    for pipeline in pipelines.values():  # warm-up
        pipeline.generate(jobs[:1], models.features)

    rows: dict = {name: defaultdict(list) for name in CONFIGS}
    for number, (job, (_, spec)) in enumerate(zip(tqdm(jobs, disable=not sys.stderr.isatty()), prompts, strict=True)):
        order = CONFIGS[number % 3 :] + CONFIGS[: number % 3]
        clips = {name: pipelines[name].generate([job], models.features)[0] for name in order}
        reference = clips[CONFIGS[0]].frames.clamp(-1, 1)
        for name, clip in clips.items():
            frames = clip.frames.clamp(-1, 1)
            rows[name]["seconds"].append(clip.denoising_seconds)
            steps = sum(len(computed_steps(trace)) for trace in clip.traces)
            rows[name]["computed"].append(steps or base.scheduler.num_sampling_steps)
            rows[name]["score"].append(score_clip(spec, read_clip(frames.numpy())))
            rows[name]["cache_bytes"].append(clip.peak_cache_bytes)
            error = (frames - reference).square().mean().item()
            rows[name]["psnr"].append(10 * math.log10(4 / error) if error else math.inf)
    return {"rows": rows, "prompts": prompts, "num_steps": base.scheduler.num_sampling_steps}


def report(result: dict, command: str, threads: int) -> str:
    """Return the figures as Markdown."""
    import torch

    from opensora_adacache.shapes.checker import add_scores

    rows, num_steps = result["rows"], result["num_steps"]
    base = rows[CONFIGS[0]]
    lines = [
        "# The embedded model, measured",
        "",
        f"`{command}`, {date.today()}, {platform.machine()} CPU, {threads} threads, torch {torch.__version__}, "
        f"{len(result['prompts'])} held-out prompts, {num_steps} steps, one seed each.",
        "",
        "## What the checker reads right",
        "",
        "| config | colour | direction | speed | shape | background | count | arrangement |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in CONFIGS:
        shares = add_scores(rows[name]["score"])
        names = ("colour", "direction", "speed", "shape", "background", "count", "arrangement")
        lines.append(f"| {name} | " + " | ".join(f"{100 * shares[key]:.1f} %" for key in names) + " |")
    lines += [
        "",
        "## Computed steps and speed of the denoising loop",
        "",
        "Speedup is the baseline's seconds over all prompts divided by the config's, measured in turn in this run; the "
        "last column divides it by the ideal, steps over computed steps.",
        "",
        "| config | computed steps | seconds per video (median) | speedup | steps / computed | speedup of ideal "
        "| PSNR to baseline | cache |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in CONFIGS:
        row = rows[name]
        speedup = sum(base["seconds"]) / sum(row["seconds"])
        ideal = num_steps / fmean(row["computed"])
        finite = [value for value in row["psnr"] if math.isfinite(value)]
        psnr = f"{fmean(finite):.1f} dB" if finite else "–"
        lines.append(
            f"| {name} | {fmean(row['computed']):.2f} of {num_steps} | {median(row['seconds']):.3f} | {speedup:.2f}× "
            f"| {ideal:.2f} | {speedup / ideal:.3f} | {psnr} | {max(row['cache_bytes']) / 1e6:.2f} MB |"
        )
    lines += [
        "",
        "## Computed steps by motion class",
        "",
        "| config | still | slow | fast |",
        "| --- | --- | --- | --- |",
    ]
    for name in CONFIGS[1:]:
        cells = []
        for speed in ("still", "slow", "fast"):
            steps = [
                c for c, (_, spec) in zip(rows[name]["computed"], result["prompts"], strict=True) if spec.speed == speed
            ]
            cells.append(f"{fmean(steps):.2f} ({len(steps)} clips)" if steps else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description="Measure the embedded model with and without caching.")
    parser.add_argument("--num-prompts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the report here too")
    options = parser.parse_args(arguments)
    command = "python scripts/bench_shapes.py " + " ".join(sys.argv[1:] if arguments is None else arguments)
    text = report(measure(options.num_prompts, options.threads), command.strip(), options.threads)
    print(text)
    if options.out:
        from opensora_adacache.media.files import write_file

        write_file(options.out, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
