"""Compare cached videos of diffusers' context parallelism with those of one process; started by test_context."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opensora_adacache import AdaCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.parallel import process_group

STEPS = 10
BOOK = {0.05: 4, 0.1: 3, 0.2: 2, 1.0: 1}
POLICIES = {
    "every step": AdaCacheConfig({1.0: 1}),
    "adacache": AdaCacheConfig(BOOK),
    "moreg": AdaCacheConfig(BOOK, moreg=MoRegConfig((1, 2), (1, STEPS), center=0.5)),
    "per-video": AdaCacheConfig(BOOK, decision="sample"),
    "forecast": ForecastCacheConfig(tolerance=0.02, corrector=0.5, decision="sample"),
    "fbcache": FBCacheConfig(0.4, decision="sample"),
    "teacache": TeaCacheConfig(0.1, (1.0, 0.0)),
    "seacache": SeaCacheConfig(0.2),
}


def tiny_models():
    """Return the small models of the adapters' tests."""
    path = Path(__file__).parents[1] / "test_adapters" / "conftest.py"
    spec = importlib.util.spec_from_file_location("adapters_conftest", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.TINY


class Collectives(TorchDispatchMode):
    """Counts collectives."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.namespace in ("c10d", "_c10d_functional")
        return function(*args, **(kwargs or {}))


def make(tiny, model, config):
    """Return latents, the computed steps of the traces, and their motions."""
    with apply_cache(model, config, STEPS, scheduler="rectified flow") as session:
        latents = tiny.sample(model, (0, 1), STEPS)
    traces = [trace for branch in session.branches.values() for trace in branch.traces]
    motions = [record.motion for trace in traces for record in trace if record.motion is not None]
    return latents, [computed_steps(trace) for trace in traces], motions


def main(name: str, **degrees: int) -> None:
    from diffusers import ContextParallelConfig

    tiny = tiny_models()[name]
    if name == "wan-2.1":  # five frames: a device gets two and a half of them
        tiny = replace(tiny, shape=(4, 5, 8, 8))
    if name == "ltx":  # diffusers 0.42.1 repeats a mask for all heads, of which a device has only some
        text = sys.modules["adapters_conftest"].text(16)
        tiny = replace(tiny, extra=text, shared={**tiny.shared, "encoder_attention_mask": None})
    alone, together = tiny.make(), tiny.make()
    with process_group():
        # diffusers 0.42.1 divides the rank by the number of accelerators, of which a CPU has none
        torch.accelerator.device_count = lambda: 1
        together.set_attention_backend("native")
        together.enable_parallelism(config=ContextParallelConfig(**degrees))
        plain = tiny.sample(alone, (0, 1), STEPS)
        with Collectives() as collectives:
            plain_split = tiny.sample(together, (0, 1), STEPS)
        line = {"case": "uncached", "difference": float((plain - plain_split).abs().max())}
        print(json.dumps({**line, "collectives": collectives.count}), flush=True)
        for policy, config in POLICIES.items():
            try:
                wanted, schedules, motions = make(tiny, alone, config)
                latents, schedules_split, motions_split = make(tiny, together, config)
            except ValueError as error:
                print(json.dumps({"case": policy, "refused": str(error)}), flush=True)
                continue
            line = {"case": policy, "difference": float((latents - wanted).abs().max())}
            line |= {"same as uncached": bool(torch.equal(latents, plain_split))}
            line |= {"alone": schedules, "together": schedules_split, "motions": [motions, motions_split]}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], **{key: int(value) for key, value in (pair.split("=") for pair in sys.argv[2:])})
