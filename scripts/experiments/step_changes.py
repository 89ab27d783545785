"""Time a computed step with single changes undone: ``python scripts/experiments/step_changes.py [--before DIR]``.

The step as it is now and the step with one change undone run in turns with the same weights and inputs, on one thread
of the processor, in both dtypes. A Markdown table gives the ratios to the step now in each turn: the median, and
the quartiles. DIR is a source tree of an older version of the package; its steps, eager and with compiled blocks,
are timed in the same turns by a process of its own. The machine must do nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import quantiles

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count

LATENTS, NUM_TOKENS = (4, 18, 32), 30
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
NOW, COMPILED = "now, eager", "now, compiled"
COMPILED_BEFORE = "before, compiled"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="DIR", help="source tree of an older version of the package")
    parser.add_argument("--depth", type=count, default=2, help="pairs of blocks (2)")
    parser.add_argument("--repeats", type=count, default=9, help="turns that are timed (9)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    return run_command(time_changes, parser.parse_args(arguments))


def time_changes(options):
    """Print the table."""
    import torch

    if options.repeats < 2 or options.depth < 1:
        raise ValueError("expected --repeats of at least 2 and --depth of at least 1")
    if options.before and not (options.before / "opensora_adacache").is_dir():
        raise ValueError(f"'{options.before}' has no package opensora_adacache: give a source tree of this repository")
    torch.set_num_threads(1)
    columns: dict[str, dict[str, str]] = {}
    for dtype, name in DTYPES.items():
        timers = make_timers(getattr(torch, name), options.depth)
        older = OlderTree(options.before, name, options.depth) if options.before else None
        if older:
            timers.update({label: lambda label=label, older=older: older.seconds(label) for label in older.labels})
        with torch.no_grad():
            for timer in timers.values():
                timer()  # this compiles
            turns = [{label: timer() for label, timer in timers.items()} for _ in range(options.repeats)]
        if older:
            older.close()
        columns[dtype] = {
            label: summary([turn[label] / turn[COMPILED if label == COMPILED_BEFORE else NOW] for turn in turns])
            for label in timers
            if label != NOW
        }
        print(dtype, columns[dtype], file=sys.stderr, flush=True)
    lines = [f"| step | {' | '.join(f'{dtype}, ratio' for dtype in DTYPES)} |", "|" + " --- |" * (1 + len(DTYPES))]
    lines += [f"| {label} | {' | '.join(columns[dtype][label] for dtype in DTYPES)} |" for label in columns["fp32"]]
    table = "\n".join(lines)
    print(table)
    if options.out:
        options.out.write_text(table + "\n", encoding="utf-8")


def make_timers(dtype, depth) -> dict[str, Callable[[], float]]:
    """Return by name a function that takes one step on both guidance branches and returns its seconds."""
    import torch

    from opensora_adacache.benchmark.device_clock import DeviceClock
    from opensora_adacache.benchmark.random_video import RandomVideo, VideoSize, random_model
    from opensora_adacache.models import STDiT3, STDiT3Config
    from opensora_adacache.models.conditioning import trim_text

    torch.manual_seed(0)
    model = random_model(STDiT3Config(depth=depth), torch.device("cpu"), dtype)
    video = RandomVideo(model, VideoSize(144, 256, 13, LATENTS), NUM_TOKENS)
    x, timestep = torch.cat([video.z, video.z]), torch.full((2,), 700.0)
    y, mask = trim_text(torch.cat([video.y, video.null(1)]), video.mask)
    text = {"y": y, "mask": mask, **video.conditions}

    def twin():
        with torch.device("meta"):
            other = STDiT3(model.config).eval()
        other.load_state_dict(model.state_dict(), assign=True)
        return other

    def step_of(other, change=lambda conditioning: conditioning):
        conditioning = change(other.prepare(**text, latent_size=LATENTS))
        return lambda: other(x, timestep, conditioning=conditioning)

    compiled = twin()
    compiled.compile_blocks()
    transposed, upcast = twin(), twin()
    for block in transposed.temporal_blocks:
        transpose_attention(block.attn)
    for block in upcast.blocks():
        block.attn.q_norm, block.attn.k_norm = upcast_norm(block.attn.q_norm), upcast_norm(block.attn.k_norm)
    float_tables = lambda given: replace(given, rotary=tuple(table.float() for table in given.rotary))  # noqa: E731
    steps = {
        NOW: step_of(model),
        COMPILED: step_of(compiled),
        "text padded to 300 tokens and masked": video.step(trim=False),
        "text and positions prepared at every step": lambda: model(x, timestep, **text),
        "attention over frames through transposed copies": step_of(transposed),
        "norms and rotation of queries and keys in float32": step_of(upcast, float_tables),
        "modulation as a product and a sum": with_plain_modulation(step_of(model)),
    }
    clock = DeviceClock(torch.device("cpu"))
    return {label: lambda step=step: clock.seconds(step) for label, step in steps.items()}


def transpose_attention(attention):
    """Let a temporal attention copy its tokens to [B·S, T, C] and back, with one row per place."""
    from opensora_adacache.models.layers import attend

    def rotate(x, rotary):
        import torch

        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = rotary
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2).to(x.dtype)

    def forward(x, rotary):
        num_rows = x.shape[0]
        x = x.transpose(1, 2).flatten(0, 1).contiguous()
        q, k, v = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate(attention.q_norm(q), rotary), rotate(attention.k_norm(k), rotary)
        out = attention.proj(attend(q, k, v).transpose(1, 2).flatten(2))
        return out.unflatten(0, (num_rows, -1)).transpose(1, 2)

    attention.forward = forward


def upcast_norm(norm):
    """Return a norm that copies its input to float32."""
    from torch import nn
    from torch.nn import functional as F

    class Norm(nn.Module):
        def forward(self, x):
            return norm.weight * F.rms_norm(x.float(), x.shape[-1:], eps=1e-6).to(x.dtype)

    return Norm()


def with_plain_modulation(step):
    """Return a step whose blocks modulate by x · (1 + scale) + shift, with a tensor in between."""
    from opensora_adacache.models import block

    def call():
        fused = block.modulate
        block.modulate = lambda x, shift, scale: x * (1 + scale) + shift
        try:
            return step()
        finally:
            block.modulate = fused

    return call


class OlderTree:
    """A process that takes steps with another source tree of the package when it is asked to.

    Attributes:
        labels: names of its steps.
    """

    labels = ("before, eager", COMPILED_BEFORE)

    def __init__(self, tree: Path, dtype: str, depth: int) -> None:
        script = Path(__file__).with_name("serve_steps.py")
        command = [sys.executable, str(script), dtype, str(depth), *map(str, LATENTS), str(NUM_TOKENS)]
        environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self, label: str) -> float:
        """Return how long a step takes there."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{label}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ValueError("the process of the older tree ended; its message is above")
        return float(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def summary(ratios):
    """Return the median with the quartiles."""
    first, middle, third = quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({first:.3f}-{third:.3f})"


if __name__ == "__main__":
    sys.exit(main())
