"""Compare our STDiT3 with upstream's: ``python scripts/experiments/upstream_stdit3.py DIR``.

DIR is a source tree of Open-Sora v1.2.0. Only its transformer is imported; those of its dependencies that a step does
not need are replaced. Prints the relative difference of a small model's output in both dtypes, with the same weights
and inputs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream", type=Path, metavar="DIR", help="source tree of Open-Sora v1.2.0")
    return run_command(compare, parser.parse_args(arguments))


def compare(options):
    """Print a line for each dtype."""
    import torch

    from opensora_adacache.benchmark.random_video import SIZES, RandomVideo, random_model
    from opensora_adacache.models import STDiT3Config

    upstream = import_upstream(options.upstream)
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        model = random_model(STDiT3Config(depth=2, hidden_size=288, num_heads=4), torch.device("cpu"), dtype)
        video = RandomVideo(model, SIZES["tiny"])
        with torch.no_grad():
            ours, theirs = video.step()(), upstream_step(upstream, model, video)()
        print(f"{dtype}: relative difference {float((ours - theirs).norm() / theirs.norm()):.1e}")


def upstream_step(upstream, model, video):
    """Return a call of upstream's STDiT3 with the weights of our model and the inputs of a `RandomVideo`."""
    import torch

    config = {name: getattr(model.config, name) for name in ("depth", "hidden_size", "num_heads")}
    theirs = upstream.STDiT3(upstream.STDiT3Config(**config)).eval().to(model.dtype)
    theirs.load_state_dict(model.state_dict(), strict=False)
    x, timestep = torch.cat([video.z] * 2).to(model.dtype), torch.full((2,), 700.0)
    y = torch.cat([video.y, video.null(1)]).to(model.dtype)
    size = {name: video.conditions[name].repeat(2).to(model.dtype) for name in ("fps", "height", "width")}
    return lambda: theirs(x, timestep, y, mask=video.mask, **size)


def import_upstream(folder):
    """Import upstream's STDiT3 from its source tree, past what its packages import for other models."""
    import torch
    from torch import nn

    if not (folder / "opensora/models/stdit/stdit3.py").is_file():
        raise ValueError(f"'{folder}' has no opensora/models/stdit/stdit3.py: give a source tree of Open-Sora v1.2.0")

    class Mlp(nn.Module):
        def __init__(self, in_features, hidden_features, out_features=None, act_layer=nn.GELU, drop=0.0):
            super().__init__()
            self.fc1, self.act = nn.Linear(in_features, hidden_features), act_layer()
            self.fc2 = nn.Linear(hidden_features, out_features or in_features)

        def forward(self, x):
            return self.fc2(self.act(self.fc1(x)))

    class Rotary(nn.Module):
        """Rotates pairs of features of [..., T, D]; its tables are made once, as the package caches them."""

        def __init__(self, dim):
            super().__init__()
            self.freqs, self.tables = nn.Parameter(10000.0 ** (-torch.arange(0, dim, 2).float() / dim)), None

        def rotate_queries_or_keys(self, x):
            if self.tables is None:
                angles = torch.arange(x.shape[-2]).to(self.freqs)[:, None] * self.freqs
                self.tables = [table.repeat_interleave(2, -1) for table in (angles.cos(), angles.sin())]
            even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
            return (x * self.tables[0] + torch.stack([-odd, even], -1).flatten(-2) * self.tables[1]).to(x.dtype)

    def attention(q, k, v, p, attn_bias):
        """Attend row by row, as xformers does with the mask of rows that lie one after the other."""
        queries, keys = attn_bias
        parts = (part[0].split(sizes) for part, sizes in ((q, queries), (k, keys), (v, keys)))
        rows = ([part.transpose(0, 1) for part in row] for row in zip(*parts, strict=True))
        outs = [nn.functional.scaled_dot_product_attention(*row) for row in rows]
        return torch.cat([out.transpose(0, 1) for out in outs])[None]

    mask = SimpleNamespace(from_seqlens=lambda queries, keys: (queries, keys))
    ops = {"memory_efficient_attention": attention, "fmha": SimpleNamespace(BlockDiagonalMask=mask)}
    add_module("xformers", ops=add_module("xformers.ops", **ops))
    for name, members in {
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {"DropPath": nn.Identity},
        "timm.models.vision_transformer": {"Mlp": Mlp},
        "rotary_embedding_torch": {"RotaryEmbedding": Rotary},
        "opensora.utils.ckpt_utils": {"load_checkpoint": None},
    }.items():
        add_module(name, **members)
    for name in ("", ".models", ".models.stdit", ".models.layers", ".acceleration", ".utils"):
        add_module(f"opensora{name}", __path__=[str(folder / f"opensora{name}".replace(".", "/"))])
    return importlib.import_module("opensora.models.stdit.stdit3")


def add_module(name, **members):
    """Let a name be imported as a module with these members; return it."""
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(members)
    return module


if __name__ == "__main__":
    sys.exit(main())
