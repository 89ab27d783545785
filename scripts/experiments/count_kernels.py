"""Count the kernels of a step: ``python scripts/experiments/count_kernels.py``.

Prints for models of three depths, eager and compiled by Inductor, how many kernels a computed and a reused step launch
on the CPU, from the end of one call of the model to the end of the next. PyTorch's profiler counts the launches: of
functions that Inductor generated, and of operators, except for those that only look at a tensor in another way. To
count those of an older version of the package, run it with PYTHONPATH=FOLDER of its source: its blocks are compiled one
by one where the model has no `compile_blocks`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
from opensora_adacache.schedulers import RFLOW

VIEWS = ("view", "squeeze", "expand", "permute", "transpose", "slice", "select", "unbind", "alias", "detach", "split")
FREE = (*VIEWS, "local_scalar_dense")
GENERATED = "cpp_fused"
"""Part of the name of a function that Inductor generated for the CPU."""
STEPS = 9
END = "end of a step"


class Text:
    """Features of a prompt of 20 tokens, padded to 300."""

    def encode(self, prompts):
        """Return the features of a prompt."""
        return {"y": torch.zeros(1, 1, 300, 64), "mask": (torch.arange(300) < 20).long()[None]}

    def null(self, n):
        """Return the null features."""
        return torch.zeros(n, 1, 300, 64)


def main(arguments=None):
    """Print a line for each depth, eager and compiled."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)  # there are no flags but --help
    import torch._inductor.config as inductor_config

    inductor_config.cpp.enable_kernel_profile = True  # the profiler sees generated functions
    for compiled in (False, True):
        for depth in (2, 4, 28):
            model = STDiT3(STDiT3Config(depth=depth, hidden_size=96, num_heads=4, caption_channels=64)).eval()
            if compiled and hasattr(model, "compile_blocks"):
                model.compile_blocks()
            elif compiled:
                for block in model.blocks():
                    block.compile()
            steps = list_kernels(model)
            found = {kind: sorted({len(names) for computed, names in steps if computed == kind}) for kind in (1, 0)}
            generated = {sum(GENERATED in name for name in names) for computed, names in steps if computed}
            print(
                f"depth {depth}, {'compiled' if compiled else 'eager'}: computed {found[1]}, of which generated "
                f"{sorted(generated)}, reused {found[0]}",
                flush=True,
            )


@torch.no_grad()
def list_kernels(model) -> list[tuple[bool, list[str]]]:
    """Return for each step of a cached run but the first whether it was computed, and the kernels that it launched."""
    values = {"height": 64.0, "width": 96.0, "num_frames": 17.0, "fps": 24.0}
    size = {name: torch.tensor([value]) for name, value in values.items()}

    def run():
        z = torch.randn(1, 4, 5, 8, 12)
        RFLOW(STEPS).sample(model, Text(), z=z, prompts=["a"], device="cpu", additional_args=size)

    def mark(*_):
        with record_function(END):
            pass

    with apply_cache(model, AdaCacheConfig({1e9: 3}), STEPS) as session:
        run()  # this compiles
        hook = model.register_forward_hook(mark)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            run()
        hook.remove()
        computed = [record.computed for record in session.trace]
    events = sorted((e for e in profiler.events() if e.cpu_parent is None), key=lambda e: e.time_range.start)
    steps: list[list[str]] = [[]]
    for name in (name for event in events for name in kernels(event)):
        steps[-1].append(name)
        if name == END:
            steps[-1].pop()
            steps.append([])
    return list(zip(computed, steps, strict=False))[1:]  # the first one makes what the run shares


def kernels(event) -> Iterator[str]:
    """Yield the names of the kernels that an event of the profiler launched, and `END` for the end of a step."""
    namespace, _, operator = event.name.partition("::")
    if event.name == END or GENERATED in event.name:
        yield event.name
    elif not operator or is_composite(namespace, operator):
        for child in sorted(event.cpu_children, key=lambda child: child.time_range.start):
            yield from kernels(child)
    elif operator != "t" and not any(free in operator for free in FREE):
        yield operator


@cache
def is_composite(namespace: str, operator: str) -> bool:
    """Return whether an operator, in all its forms that return a new tensor, only calls others."""
    packet = getattr(getattr(torch.ops, namespace), operator, None)
    if packet is None:
        return True
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    overloads = [getattr(packet, overload) for overload in packet.overloads() if not overload.endswith("out")]
    known = [overload for overload in overloads if torch._C._dispatch_has_kernel(overload.name())]
    return all(overload.has_kernel_for_dispatch_key(key) for overload in known)


if __name__ == "__main__":
    main()
