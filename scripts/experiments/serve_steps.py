"""Take steps when asked, for `step_changes.py`: ``python scripts/experiments/serve_steps.py DTYPE DEPTH T H W TOKENS``.

Reads the name of a step from each line of its input ("before, eager" or "before, compiled"), takes that step on one
thread, and writes its seconds. It runs with versions of the package back to commit fb7fa4d, given by PYTHONPATH.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config


def main(arguments=None):
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dtype", help="float32 or bfloat16")
    parser.add_argument("depth", type=int, help="pairs of blocks")
    parser.add_argument("latents", type=int, nargs=3, help="size of the latents")
    parser.add_argument("num_tokens", type=int, help="tokens of the prompt")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    eager = STDiT3(STDiT3Config(depth=options.depth)).to(dtype).eval().requires_grad_(False)
    for parameter in eager.parameters():
        parameter.normal_(std=0.02)
    with torch.device("meta"):
        compiled = STDiT3(eager.config).eval()
    compiled.load_state_dict(eager.state_dict(), assign=True)
    for block in compiled.blocks():
        block.compile()
    models = {"before, eager": eager, "before, compiled": compiled}
    inputs = {
        "x": torch.randn(1, eager.config.in_channels, *options.latents).repeat(2, 1, 1, 1, 1),
        "timestep": torch.full((2,), 700.0),
        "y": torch.randn(2, 1, eager.config.model_max_length, eager.config.caption_channels),
        "mask": (torch.arange(eager.config.model_max_length) < options.num_tokens).long()[None],
        **{name: torch.tensor([value]) for name, value in (("fps", 24.0), ("height", 144.0), ("width", 256.0))},
    }
    with torch.no_grad():
        for line in sys.stdin:
            start = time.perf_counter()
            models[line.strip()](**inputs)
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
