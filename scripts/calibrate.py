"""Find a codebook for a wanted speedup: ``python scripts/calibrate.py CONFIG --speedup X [--limit N] [--out FILE]``.

Makes the config's prompts once without a cache, records the probe residual of every step, and scales the thresholds
of the config's codebook by one factor until the schedules that they give compute n / X steps on average. Prints the
codebook, the schedule of each prompt, and the motion that MoReg would see.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median


def record_videos(config, limit):
    """Return a recording for each of the config's first `limit` prompts, and the prompts."""
    import torch
    from tqdm import tqdm

    from opensora_adacache.caching.replay import record
    from opensora_adacache.components import DTYPES, load_text_encoder, load_transformer, load_vae
    from opensora_adacache.hosts.recorder import record_probe
    from opensora_adacache.jobs import plan_jobs
    from opensora_adacache.pipeline import Pipeline
    from opensora_adacache.text_features import TextFeatures

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[config.dtype]
    jobs = plan_jobs(replace(config, cache=None, batch_size=1))[:limit]
    encoder = load_text_encoder(config.text_encoder, dtype, device)
    features = TextFeatures(encoder, [text for job in jobs for text in job.texts])
    encoder.release()
    transformer = load_transformer(config.model, dtype, device)
    encoder.attach_null(transformer.y_embedder.y_embedding)
    pipeline = Pipeline(replace(config, cache=None), transformer, load_vae(config.vae, dtype, device), device)
    strides = config.cache.moreg.strides if config.cache.moreg else (1,)
    max_rate = max(config.cache.codebook.values())
    recordings = []
    for job in tqdm(jobs, desc="recording", disable=not sys.stderr.isatty()):
        with record_probe(transformer, config.cache) as residuals:
            pipeline.generate([job], features)
        recordings.append(record(residuals, config.num_latent_frames, strides, max_rate, config.cache.metric))
    return recordings, [job.prompt for job in jobs]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description="Find a codebook for a wanted speedup from uncached videos.")
    parser.add_argument("config", help="a config with a cache section")
    parser.add_argument("--speedup", type=float, required=True, help="wanted n / computed steps, on average")
    parser.add_argument("--prompt-path", help="calibrate on these prompts instead of the config's")
    parser.add_argument("--limit", type=int, default=24, help="number of prompts (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    options = parser.parse_args(arguments)
    from opensora_adacache.caching.config import AdaCacheConfig
    from opensora_adacache.caching.replay import replay
    from opensora_adacache.config import load_config
    from opensora_adacache.evaluation.calibration import calibrate
    from opensora_adacache.media import write_file

    try:
        overrides = {"prompt_path": options.prompt_path} if options.prompt_path else {}
        config = load_config(options.config, overrides)
        if not isinstance(config.cache, AdaCacheConfig):
            raise ValueError(f"'{options.config}' has no AdaCache section to calibrate; name a config that has one")
        if config.loop > 1:
            raise ValueError(f"calibration takes single clips, got loop {config.loop}; set loop=1")
        recordings, prompts = record_videos(config, options.limit)
        found = calibrate(config.cache, recordings, options.speedup)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    schedules = [replay(found, recording) for recording in recordings]
    num_steps = recordings[0].num_steps
    for prompt, recording, steps in zip(prompts, recordings, schedules, strict=True):
        strip = "".join("#" if step in steps else "." for step in range(1, num_steps + 1))
        motion = median(recording.motion_scores()) if recording.motion_scores() else float("nan")
        print(f"{len(steps):3d} [{strip}] motion {motion:.3f}  {prompt}")
    mean = fmean(map(len, schedules))
    scores = [score for recording in recordings for score in recording.motion_scores()]
    print(f"mean {mean:.2f} of {num_steps} steps ({num_steps / mean:.2f}x); median motion {median(scores):.4f}")
    print(f"codebook = {found.codebook}")
    if options.out:
        result = {
            "config": options.config,
            "speedup": options.speedup,
            "codebook": {str(threshold): rate for threshold, rate in found.codebook.items()},
            "mean_computed_steps": mean,
            "median_motion": median(scores),
            "prompts": prompts,
            "schedules": schedules,
        }
        write_file(options.out, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
