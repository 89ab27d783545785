"""Print what runs cost before anything is loaded: tokens, TFLOPs and the memory of the cache.

python scripts/plan.py CONFIG [CONFIG ...] [--json]

Operators are executed on the meta device, so this takes seconds for the published model and needs no weights.
Numbers are per video, both halves of guidance included; `opensora_adacache.evaluation.flops` says what counts
as a FLOP.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.caching.config import AdaCacheConfig
from opensora_adacache.config import load_config, locate
from opensora_adacache.config.settings import VAE_STRIDE, ModelSettings, RunConfig

if TYPE_CHECKING:
    from opensora_adacache.models import STDiT3Config

BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2}

# header, key, format
COLUMNS = (
    ("config", "config", "{}"),
    ("height x width x frames", "size", "{}"),
    ("tokens", "tokens", "{}"),
    ("steps", "steps", "{}"),
    ("TFLOPs/step", "tflops_step", "{:.4g}"),
    ("reused step", "tflops_reused_step", "{:.2g}"),
    ("TFLOPs/run", "tflops_run", "{:.5g}"),
    ("cache GB, stack", "cache_gb_stack", "{:.3g}"),
    ("cache GB, block", "cache_gb_block", "{:.3g}"),
)
NOTE = """
Per video, guidance included. TFLOPs: 2 per multiply-accumulate, padding of the text counted; a run computes
every step. GB: 10^9 bytes of cached residuals in the dtype of the run; "stack" is the default granularity.
"""


def plan(config: RunConfig) -> dict[str, Any]:
    """Return the numbers of one config, by the keys of `COLUMNS`."""
    import torch

    from opensora_adacache.evaluation import flops
    from opensora_adacache.models import STDiT3

    with torch.device("meta"):
        model = STDiT3(read_structure(config.model))
    height, width = config.image_size
    latent_size = (config.num_latent_frames, height // VAE_STRIDE, width // VAE_STRIDE)
    num_tokens = flops.count_tokens(latent_size, model.config.patch_size)
    step = flops.count_step(model, latent_size, config.text_encoder.model_max_length)
    num_steps = config.scheduler.num_sampling_steps
    row = {
        "config": config.name,
        "size": f"{height}x{width}x{config.num_frames}",
        "tokens": num_tokens,
        "steps": num_steps,
        "tflops_step": step.computed / 1e12,
        "tflops_reused_step": step.reused / 1e12,
        "tflops_run": step.run(num_steps, num_steps) / 1e12,
    }
    for granularity in ("stack", "block"):
        num_residuals = flops.count_residuals(granularity, model.config.depth, count_probe_sites(config))
        num_bytes = flops.count_cache_bytes(
            num_residuals, num_tokens, model.config.hidden_size, BYTES_PER_VALUE[config.dtype]
        )
        row[f"cache_gb_{granularity}"] = num_bytes / 1e9
    return row


def read_structure(settings: ModelSettings) -> STDiT3Config:
    """Return the structure of a local checkpoint, or that of the type where it lies on the hub."""
    from opensora_adacache.models import STDiT3Config, checkpoint
    from opensora_adacache.models.stdit3 import VARIANTS

    path = locate(settings.from_pretrained)
    if settings.type in VARIANTS and not path.is_dir():
        return STDiT3Config.from_dict(VARIANTS[settings.type])
    return STDiT3Config.from_dict(checkpoint.read_config(checkpoint.resolve(settings.from_pretrained)))


def count_probe_sites(config: RunConfig) -> int:
    """Return at how many sites the config measures the distance; the host's own choice is one."""
    if config.cache is None:
        return 1
    if not isinstance(config.cache, AdaCacheConfig):
        return 0
    num_layers = 1 if config.cache.cache_loc is None else len(config.cache.cache_loc)
    # "ca-mlp" looks at the spatial and at the temporal block of a layer.
    return num_layers * (2 if config.cache.cache_res == "ca-mlp" else 1)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Align the rows under their headers."""
    lines = [[header for header, _, _ in COLUMNS]]
    lines += [[template.format(row[key]) for _, key, template in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="+", type=Path, help="config file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(arguments)
    try:
        # The costs do not depend on the prompts, so their file need not exist.
        rows = [plan(load_config(path, {"prompt": ["any"]})) for path in args.config]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(rows, indent=2) if args.json else format_table(rows) + "\n" + NOTE.rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
