"""Time a computed step beside upstream's: ``python scripts/experiments/step_time.py [--upstream DIR] [--out FILE]``.

Upstream's STDiT3, ours and ours compiled run in turns with the same weights and inputs, on one thread of the processor,
in both dtypes and with both lengths of text. A Markdown table gives the ratios of the steps of each turn: the median,
and the quartiles. DIR is a source tree of Open-Sora v1.2.0 (see `upstream_stdit3.py`); without it, ours is compared
with itself compiled. The machine must do nothing else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median, quantiles

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count

LATENTS = (4, 18, 32)
TOKENS = (30, 300)
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=Path, metavar="DIR", help="source tree of Open-Sora v1.2.0")
    parser.add_argument("--depth", type=count, default=4, help="pairs of blocks (4)")
    parser.add_argument("--repeats", type=count, default=30, help="turns that are timed (30)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    return run_command(time_steps, parser.parse_args(arguments))


def time_steps(options):
    """Print the table."""
    import torch

    if options.repeats < 2 or options.depth < 1:
        raise ValueError("expected --repeats of at least 2 and --depth of at least 1")
    from opensora_adacache.benchmark.device_clock import DeviceClock

    clock = DeviceClock(torch.device("cpu"))
    torch.set_num_threads(1)
    upstream = None
    if options.upstream is not None:
        from upstream_stdit3 import import_upstream

        upstream = import_upstream(options.upstream)
    names = [*(["upstream"] if upstream else []), "eager", "compiled"]
    pairs = [(over, under) for index, under in enumerate(names) for over in names[index + 1 :]]
    lines = [f"| dtype | text tokens | {names[0]}, s | {' | '.join(f'{a} / {b}' for a, b in pairs)} | error |"]
    lines.append("|" + " --- |" * (4 + len(pairs)))
    for dtype in DTYPES:
        for num_tokens in TOKENS:
            steps = make_steps(upstream, getattr(torch, DTYPES[dtype]), num_tokens, options.depth)
            with torch.no_grad():
                outs = {name: step() for name, step in steps.items()}  # this compiles
                turns = [{name: clock.seconds(step) for name, step in steps.items()} for _ in range(options.repeats)]
            ratios = [summary([turn[over] / turn[under] for turn in turns]) for over, under in pairs]
            error = max(float((out - outs[names[0]]).norm() / outs[names[0]].norm()) for out in outs.values())
            first = median(turn[names[0]] for turn in turns)
            lines.append(f"| {dtype} | {num_tokens} | {first:.2f} | {' | '.join(ratios)} | {error:.1e} |")
            print(lines[-1], file=sys.stderr, flush=True)
    table = "\n".join(lines)
    print(table)
    if options.out:
        options.out.write_text(table + "\n", encoding="utf-8")


def make_steps(upstream, dtype, num_tokens, depth):
    """Return by name a call of each implementation on both guidance branches, all with the same weights."""
    import torch

    from opensora_adacache.benchmark.random_video import RandomVideo, VideoSize, random_model
    from opensora_adacache.models import STDiT3, STDiT3Config

    torch.manual_seed(0)
    eager = random_model(STDiT3Config(depth=depth), torch.device("cpu"), dtype)
    with torch.device("meta"):
        compiled = STDiT3(eager.config).eval()
    compiled.load_state_dict(eager.state_dict(), assign=True)
    compiled.compile_blocks()
    video = RandomVideo(eager, VideoSize(144, 256, 13, LATENTS), num_tokens)
    steps = {"eager": video.step()}
    video.model = compiled
    steps["compiled"] = video.step()
    if upstream is None:
        return steps
    from upstream_stdit3 import upstream_step

    return {"upstream": upstream_step(upstream, eager, video), **steps}


def summary(ratios):
    """Return the median with the quartiles."""
    first, middle, third = quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({first:.3f}-{third:.3f})"


if __name__ == "__main__":
    sys.exit(main())
