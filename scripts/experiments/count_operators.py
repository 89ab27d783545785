"""Count the operators of a step: ``python scripts/experiments/count_operators.py``.

Prints for models of three depths how many operators a computed and a reused step run, from the end of one call of the
model to the end of the next; operators that only look at a tensor in another way do not count. To count those of an
older version of the package, run it with PYTHONPATH=FOLDER of its source.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
from opensora_adacache.schedulers import RFLOW

VIEWS = ("view", "squeeze", "expand", "permute", "transpose", "slice", "select", "unbind", "alias", "detach", "split")
FREE = (*VIEWS, "local_scalar_dense")
STEPS = 9


class Operators(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        """Run an operator."""
        name = operator._schema.name.partition("::")[2]
        self.count += name != "t" and not any(free in name for free in FREE)
        return operator(*args, **(kwargs or {}))


class Text:
    """Features of a prompt of 20 tokens, padded to 300."""

    def encode(self, prompts):
        """Return the features of a prompt."""
        return {"y": torch.zeros(1, 1, 300, 64), "mask": (torch.arange(300) < 20).long()[None]}

    def null(self, n):
        """Return the null features."""
        return torch.zeros(n, 1, 300, 64)


def main(arguments=None):
    """Print a line for each depth."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)  # there are no flags but --help
    for depth in (2, 4, 28):
        model = STDiT3(STDiT3Config(depth=depth, hidden_size=96, num_heads=4, caption_channels=64)).eval()
        values = {"height": 64.0, "width": 96.0, "num_frames": 17.0, "fps": 24.0}
        size = {name: torch.tensor([value]) for name, value in values.items()}
        counts = []
        with torch.no_grad(), apply_cache(model, AdaCacheConfig({1e9: 3}), STEPS) as session, Operators() as operators:

            def note(*_, counts=counts, operators=operators):
                counts.append(operators.count)
                operators.count = 0

            model.register_forward_hook(note)
            z = torch.randn(1, 4, 5, 8, 12)
            RFLOW(STEPS).sample(model, Text(), z=z, prompts=["a"], device="cpu", additional_args=size)
        steps = list(zip(session.trace, counts, strict=True))[1:]  # the first one makes what the run shares
        found = {kind: sorted({n for r, n in steps if r.computed == kind}) for kind in (True, False)}
        print(f"depth {depth}: computed {found[True]}, reused {found[False]}")


if __name__ == "__main__":
    main()
