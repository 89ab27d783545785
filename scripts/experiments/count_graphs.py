"""Count compiled graphs and graph breaks of a run: ``python scripts/experiments/count_graphs.py``.

Prints for a run of 12 steps, without a cache and with AdaCache in both granularities, how many graphs there are after
each step. Nothing is optimised. To count those of an older version of the package, run it with PYTHONPATH=FOLDER of its
source: its blocks are compiled one by one where the model has no `compile_blocks`.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
from opensora_adacache.schedulers import RFLOW

STEPS = 12
CACHES = {
    "none": None,
    "stack": AdaCacheConfig({1e9: 3}),
    "block": AdaCacheConfig({1e9: 3}, granularity="block"),
}


class Text:
    """Features of a prompt of 20 tokens, padded to 300."""

    def encode(self, prompts):
        """Return the features of a prompt."""
        return {"y": torch.zeros(1, 1, 300, 64), "mask": (torch.arange(300) < 20).long()[None]}

    def null(self, n):
        """Return the null features."""
        return torch.zeros(n, 1, 300, 64)


def main(arguments=None):
    """Print a line for each cache."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)  # there are no flags but --help
    for name, cache in CACHES.items():
        torch._dynamo.reset()
        counters.clear()
        model = STDiT3(STDiT3Config(depth=4, hidden_size=96, num_heads=4, caption_channels=64)).eval()
        counter, graphs = CompileCounterWithBackend("eager"), []
        if hasattr(model, "compile_blocks"):
            model.compile_blocks(counter)
        else:
            for block in [*model.spatial_blocks, *model.temporal_blocks]:
                block.compile(backend=counter)
        model.register_forward_hook(lambda *_, counter=counter, graphs=graphs: graphs.append(counter.frame_count))
        values = {"height": 64.0, "width": 96.0, "num_frames": 17.0, "fps": 24.0}
        size = {key: torch.tensor([value]) for key, value in values.items()}
        with torch.no_grad(), nullcontext() if cache is None else apply_cache(model, cache, STEPS):
            z = torch.randn(1, 4, 5, 8, 12)
            RFLOW(STEPS).sample(model, Text(), z=z, prompts=["a"], device="cpu", additional_args=size)
        print(f"{name}: {graphs} graphs, {sum(counters['graph_break'].values())} graph breaks")


if __name__ == "__main__":
    main()
