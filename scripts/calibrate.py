"""Find settings of caching policies: ``python scripts/calibrate.py CONFIG (--speedup X | --psnr X) [--out FILE]``.

Makes a few prompts without a cache and finds, for the policy in the config's cache section or those named by
--policy, the settings that give the wanted speedup (n / computed steps) or the wanted PSNR in dB to the uncached
videos, on average. Prints each as a cache section. FILE.py becomes a config of settings that a comparison can take as
its base, FILE.json keeps computed steps, motion and prompts too.
"""

from __future__ import annotations

import argparse
import json
import pprint
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from statistics import median


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parse(arguments)
    from opensora_adacache.caching.adacache import AdaCacheConfig
    from opensora_adacache.caching.registry import command_name
    from opensora_adacache.media.files import write_file

    try:
        config, starts = read_config(options)
        calibrator = load(config, options.limit)
        found, missed = {}, False
        for start in starts:
            for wanted in options.speedup or options.psnr:
                search = calibrator.for_speedup if options.speedup else calibrator.for_psnr
                name = f"{command_name(type(start))}-{wanted:g}{'x' if options.speedup else 'db'}"
                try:
                    found[name] = search(start, wanted)
                except ValueError as error:  # one that cannot be reached must not cost the others
                    missed = True
                    print(f"error: {name}: {error}", file=sys.stderr)
                    continue
                print(describe(name, found[name], calibrator.num_steps), flush=True)
        adaptive = next((start for start in starts if isinstance(start, AdaCacheConfig)), None)
        motion = show_motion(calibrator, adaptive) if adaptive else None
        if options.out and found:
            text = (
                as_python(found, options)
                if options.out.suffix == ".py"
                else as_json(found, options, calibrator, motion)
            )
            write_file(options.out, text.encode())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 2 if missed else 0


def parse(arguments):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config of run_sample_video.sh")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--speedup", type=float, nargs="+", help="wanted n / computed steps, on average")
    wanted.add_argument("--psnr", type=float, nargs="+", help="wanted mean PSNR in dB to the uncached videos")
    parser.add_argument("--policy", nargs="+", help="policies as 'scripts/compare.py --list' names them")
    parser.add_argument("--prompt-path", help="calibrate on these prompts instead of the config's")
    parser.add_argument("--limit", type=int, default=24, help="number of prompts (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the result here, as .py or .json")
    return parser.parse_args(arguments)


def read_config(options):
    """Return the run config and the settings to start from, all checked before anything is loaded."""
    from opensora_adacache.caching.registry import named_class
    from opensora_adacache.calibration.calibrator import starting_settings
    from opensora_adacache.config import load_config

    if min(options.speedup or options.psnr) <= 0:
        raise ValueError("--speedup and --psnr must be above 0")
    overrides = {"prompt_path": options.prompt_path} if options.prompt_path else {}
    config = load_config(options.config, overrides)
    if config.loop > 1:
        raise ValueError(f"calibration takes single clips, got loop {config.loop}; set loop=1")
    if not options.policy:
        if config.cache is None:
            raise ValueError(f"'{options.config}' has no cache section to calibrate; name one that has, or --policy")
        return config, [config.cache]
    classes = [named_class(name) for name in options.policy]
    given = type(config.cache)
    return config, [config.cache if cls is given else starting_settings(cls) for cls in classes]


def load(config, limit):
    """Return a calibrator with the models and the first prompts of the config."""
    from tqdm import tqdm

    from opensora_adacache.calibration.calibrator import Calibrator
    from opensora_adacache.generation.jobs import plan_jobs
    from opensora_adacache.generation.loading import load_models

    jobs = plan_jobs(replace(config, cache=None, batch_size=1, overwrite=True))[:limit]
    models = load_models(config, [text for job in jobs for text in job.texts])
    bar = tqdm(desc="batches", disable=not sys.stderr.isatty())
    return Calibrator(config, models, jobs, on_run=bar.update)


def section(cache):
    """Return settings as the cache section of a config, without what equals the default."""
    from opensora_adacache.caching.registry import type_name

    kept = {f.name: getattr(cache, f.name) for f in fields(cache) if getattr(cache, f.name) != f.default}
    kept = {name: asdict(value) if name == "moreg" else value for name, value in kept.items()}
    return {"type": type_name(type(cache)), **kept}


def describe(name, found, num_steps):
    """Return one line on what was found, and the section."""
    quality = "" if found.psnr is None else f", {found.psnr:.2f} dB"
    line = f"{name}: {found.computed_steps:.2f} of {num_steps} steps ({num_steps / found.computed_steps:.2f}x){quality}"
    return f"{line}\n  cache = {pprint.pformat(section(found.cache), width=110, compact=True, sort_dicts=False)}"


def show_motion(calibrator, cache):
    """Print the motion that MoReg would see on each prompt; return its median."""
    recordings = calibrator.recordings(cache)
    for job, recording in zip(calibrator.jobs, recordings, strict=True):
        scores = recording.motion_scores()
        print(f"motion {median(scores) if scores else float('nan'):.3f}  {job.prompt}")
    scores = [score for recording in recordings for score in recording.motion_scores()]
    print(f"median motion {median(scores):.4f}" if scores else "no motion: a single latent frame")
    return median(scores) if scores else None


def as_python(found, options):
    """Return a config of settings."""
    option, values = ("--speedup", options.speedup) if options.speedup else ("--psnr", options.psnr)
    parts = [f"python scripts/calibrate.py {options.config} {option} " + " ".join(f"{value:g}" for value in values)]
    parts.append(f"    --limit {options.limit}")
    if options.prompt_path:
        parts[-1] += f" --prompt-path {options.prompt_path}"
    if options.policy:
        parts.append(f"    --policy {' '.join(options.policy)}")
    lines = ["# Settings found by", "# " + " \\\n# ".join(parts), "settings = {"]
    for name, result in found.items():
        body = pprint.pformat(section(result.cache), width=100, compact=True, sort_dicts=False)
        lines += [f"    {name!r}: dict(", "        cache=" + body.replace("\n", "\n        ") + ",", "    ),"]
    return "\n".join([*lines, "}", ""]).replace("'", '"')


def as_json(found, options, calibrator, motion):
    """Return everything that was found, with the prompts."""
    result = {
        "config": options.config,
        "found": {
            name: {"cache": section(r.cache), "computed_steps": r.computed_steps, "psnr": r.psnr}
            for name, r in found.items()
        },
        "median_motion": motion,
        "prompts": [job.prompt for job in calibrator.jobs],
    }
    return json.dumps(result, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
