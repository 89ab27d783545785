"""Evaluate videos with VBench 0.1.5 in its own environment, one dimension after another; finished ones are skipped.

``python scripts/vbench.py VIDEOS --env ENV --out OUT [--dimensions NAME …]`` evaluates; OUT/scores.json has the scores.
``python scripts/vbench.py --list-prompts --env ENV`` prints the prompts, one per line, to make the videos from.

ENV is made by ``bash scripts/vbench_env.sh ENV``. Evaluating needs a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", type=Path, help="folder of {prompt}-{0..4}.mp4")
    parser.add_argument("--env", type=Path, default=Path("vbench-env"), help="VBench's virtual environment")
    parser.add_argument("--full-info", type=Path, help="VBench_full_info.json (default: the one in ENV)")
    parser.add_argument("--out", type=Path, default=Path("outputs/vbench"), help="folder of results")
    parser.add_argument("--dimensions", nargs="+", metavar="NAME", help="default: all 16")
    parser.add_argument("--list-prompts", action="store_true", help="print the prompts and stop")
    options = parser.parse_args(arguments)
    try:
        if options.list_prompts:
            list_prompts(options)
        else:
            evaluate(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"interrupted: run the same command again; finished dimensions are kept in '{options.out}'", file=sys.stderr
        )
        return 130
    return 0


def list_prompts(options: argparse.Namespace) -> None:
    """Print each prompt of the wanted dimensions once."""
    from opensora_adacache.benchmark.vbench import check_dimensions, read_prompts
    from opensora_adacache.benchmark.vbench_score import DIMENSIONS

    dimensions = options.dimensions or list(DIMENSIONS)
    check_dimensions(dimensions)
    prompts = read_prompts(full_info_path(options))
    print("\n".join(dict.fromkeys(prompt.text for prompt in prompts if set(prompt.dimensions) & set(dimensions))))


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate what is not there yet, print the scores and write them."""
    from opensora_adacache.benchmark import vbench
    from opensora_adacache.benchmark.vbench_score import DIMENSIONS, total_score
    from opensora_adacache.media.files import write_file

    if options.videos is None:
        raise ValueError("expected the folder of videos, got none; name it, or pass --list-prompts")
    dimensions = options.dimensions or list(DIMENSIONS)
    vbench.check_dimensions(dimensions)
    full_info = full_info_path(options)
    prompts = vbench.read_prompts(full_info)
    links = options.out / "videos"
    vbench.link_videos(options.videos, vbench.video_names(prompts, dimensions), links)
    scores = {}
    for dimension in dimensions:
        output, names = options.out / dimension, vbench.video_names(prompts, [dimension])
        result = vbench.find_result(output, links, names)
        if result is None:
            python = vbench.environment_python(options.env)
            print(f"{dimension}: {len(names)} videos …", flush=True)
            vbench.run_dimension(python, full_info, links, output, dimension)
            result = vbench.find_result(output, links, names)
            if result is None:
                raise OSError(f"vbench wrote no result of '{dimension}'; see '{output / 'log.txt'}'")
        scores[dimension] = vbench.read_result(result, dimension, names)
        print(f"{dimension}: {100 * scores[dimension]:.2f} %", flush=True)
    report: dict[str, object] = {"dimensions": scores}
    if set(scores) == set(DIMENSIONS):
        score = total_score(scores)
        means = {"quality": score.quality, "semantic": score.semantic, "total": score.total}
        report |= means
        print(", ".join(f"{name} {100 * value:.2f} %" for name, value in means.items()))
    else:
        print(f"no total: {len(DIMENSIONS) - len(scores)} of {len(DIMENSIONS)} dimensions were not asked for")
    write_file(options.out / "scores.json", (json.dumps(report, indent=2) + "\n").encode())


def full_info_path(options: argparse.Namespace) -> Path:
    """Return the list of prompts: the one named, or that of the environment."""
    from opensora_adacache.benchmark.vbench import environment_python

    if options.full_info:
        return options.full_info
    package = environment_python(options.env).parent.parent
    return next(package.glob("lib/python*/site-packages/vbench"), package) / "VBench_full_info.json"


if __name__ == "__main__":
    sys.exit(main())
