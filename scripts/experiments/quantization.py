"""What quantisation changes and saves: ``python scripts/experiments/quantization.py [CONFIG] [--limit N] --out FILE``.

Makes the first prompts of a config in bfloat16, with the transformer or the text encoder quantised and with AdaCache,
and compares each video with the same one without either. Counts the bytes of the published models on the meta device.
On a CPU float8 values are the same as on a GPU, but the CPU's product may round their sums differently.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count

ADACACHE = {"cache.calibrated": "scenes_30.json#adacache-2.2x", "cache.decision": "sample"}
INT8_TEXT = {"text_encoder.quantize": "int8-weights"}
BASELINE = "bf16, text encoder fp32"
NOTE = "The row fp32 shows what rounding to bf16 changes by itself; more than that PSNR means nothing."
RUNS = {
    "fp32": {"dtype": "fp32"},
    "transformer int8-weights": {"model.quantize": "int8-weights"},
    "transformer int8": {"model.quantize": "int8"},
    "transformer float8": {"model.quantize": "float8"},
    "text encoder bf16": {"text_encoder.dtype": "bf16"},
    "text encoder fp32, int8-weights": INT8_TEXT,
    "text encoder bf16, int8-weights": {"text_encoder.dtype": "bf16", **INT8_TEXT},
    "AdaCache": ADACACHE,
    "AdaCache, transformer int8": {**ADACACHE, "model.quantize": "int8"},
}
# The encoder of T5 v1.1 XXL, as its config.json says.
T5_XXL = {
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_heads": 64,
    "num_layers": 24,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/scenes/sample.py")
    parser.add_argument("--limit", type=count, default=8, help="number of prompts (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    options = parser.parse_args(arguments)
    options.command = typed_command("scripts/experiments/quantization.py", arguments)
    return run_command(measure, options)


def measure(options: argparse.Namespace) -> None:
    """Make the videos and write the page."""
    from datetime import date
    from importlib.metadata import version

    from opensora_adacache.benchmark.table_files import write_study

    with float8_anywhere():
        made = f"On {date.today()}, torch {version('torch')}, torchao {version('torchao')}."
        lines = [made, "", *quality(options.config, options.limit), "", *memory()]
    print("\n".join(lines))
    write_study(options.out, "Quantised models: quality and bytes", options.command, lines)


@contextmanager
def float8_anywhere() -> Iterator[None]:
    """Let float8 be used without the hardware that makes it fast."""
    from opensora_adacache.models.quantization import torchao_config

    torchao_config("float8")  # says in one line where torchao is missing
    with (
        patch("torchao.quantization.quant_api._check_hardware_support"),
        patch("opensora_adacache.models.quantization._capability", return_value=(8, 9)),
    ):
        yield


def quality(config_path: str, limit: int) -> list[str]:
    """Return the table of PSNR."""
    from opensora_adacache.benchmark.table_files import markdown_table
    from opensora_adacache.metrics.quality import psnr

    expected, _ = make_videos(config_path, limit, {})
    rows = []
    for title, overrides in RUNS.items():
        videos, computed = make_videos(config_path, limit, overrides)
        values = [psnr(video, reference) for video, reference in zip(videos, expected, strict=True)]
        rows.append((title, f"{computed:.1f}", f"{fmean(values):.1f}", f"{min(values):.1f}"))
        print(*rows[-1], file=sys.stderr)
    columns = ("run", "computed steps, mean", "PSNR, mean, dB", "PSNR, lowest, dB")
    heading = f"## {config_path}, {len(expected)} prompts"
    return [heading, "", f"PSNR to the same videos in {BASELINE}.", NOTE, "", *markdown_table(columns, rows)]


def make_videos(config_path: str, limit: int, overrides: dict) -> tuple[list, float]:
    """Return the videos of a run and its mean number of computed steps."""
    from opensora_adacache.config import load_config
    from opensora_adacache.generation.jobs import plan_jobs
    from opensora_adacache.generation.loading import load_models

    config = load_config(config_path, {"dtype": "bf16", "end_index": limit, **overrides})
    jobs = plan_jobs(config)
    models = load_models(config, [text for job in jobs for text in job.texts])
    videos, counts = [], []
    with models.pipeline(config) as pipeline:
        for job in jobs:
            (clip,) = pipeline.generate([job], models.features)
            videos.append(clip.frames.clamp(-1, 1))
            steps = clip.traces[0] if clip.traces else None
            counts.append(
                config.scheduler.num_sampling_steps if steps is None else sum(step.computed for step in steps)
            )
    return videos, fmean(counts)


def memory() -> list[str]:
    """Return the table of bytes."""
    from opensora_adacache.benchmark.table_files import markdown_table

    rows = []
    for name, modes in {"STDiT3-XL/2": ("float8", "int8", "int8-weights"), "T5-XXL": ("int8-weights",)}.items():
        for dtype, mode in [("fp32", None), ("bf16", None), *(("bf16", mode) for mode in modes)]:
            size = count_bytes(name, dtype, mode)
            rows.append((name, dtype, mode or "", f"{size:,}".replace(",", " "), f"{size / 1e9:.2f}"))
    columns = ("model", "dtype", "quantize", "bytes of weights", "GB")
    return ["## Weights of the published models", "", *markdown_table(columns, rows)]


def count_bytes(name: str, dtype: str, mode: str | None) -> int:
    """Return the bytes of a published model's weights; nothing is loaded."""
    import torch
    from torch import nn
    from transformers import T5Config, T5EncoderModel

    from opensora_adacache.generation.dtypes import DTYPES
    from opensora_adacache.models import STDiT3, STDiT3Config
    from opensora_adacache.models.quantization import quantize_linears, weight_bytes
    from opensora_adacache.models.structure import VARIANTS

    device = torch.device("meta")
    parts: list[nn.Module]
    with device:
        if name == "T5-XXL":
            model: nn.Module = T5EncoderModel(T5Config(**T5_XXL))
            parts = [model]
        else:
            model = STDiT3(STDiT3Config(**VARIANTS[name]))
            parts = list(model.blocks())
    model.to(DTYPES[dtype])
    if mode:
        for part in parts:
            quantize_linears(part, mode, device)
    return weight_bytes(model)


if __name__ == "__main__":
    sys.exit(main())
