"""Costs of runs and benchmarks as a text table with notes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opensora_adacache.benchmark.config import is_comparison, load_comparison
from opensora_adacache.benchmark.paper import find_table
from opensora_adacache.config import load_config

# header, key, format
RUN_COLUMNS = (
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
COMPARISON_COLUMNS = (
    ("setting", "setting", "{}"),
    ("height x width x frames", "size", "{}"),
    ("tokens", "tokens", "{}"),
    ("steps", "steps", "{}"),
    ("computed", "computed_steps", "{:.4g}"),
    ("TFLOPs", "tflops", "{:.2f}"),
    ("ratio", "tflops_ratio", "{:.4f}"),
    ("paper TFLOPs", "paper_tflops", "{:.2f}"),
    ("paper ratio", "paper_ratio", "{:.4f}"),
    ("as published", "tflops_as_published", "{:.2f}"),
    ("ratio", "ratio_as_published", "{:.4f}"),
    ("paper s", "paper_latency_s", "{:.2f}"),
    ("cache GB, stack", "cache_gb_stack", "{:.3g}"),
    ("cache GB, block", "cache_gb_block", "{:.3g}"),
)
RUN_NOTE = """
All figures are per video and include guidance. A multiply-add is 2 FLOPs; the prompt has the maximum length;
TFLOPs/run computes every step. 1 GB is 10^9 bytes of cached residuals in the dtype of the run. The default
granularity is "stack".
"""
COMPARISON_NOTE = """
All figures are per video, for denoising with guidance and {text_tokens} text tokens. A multiply-add is 2 FLOPs.
1 GB is 10^9 bytes of cached residuals in the dtype of the run. Policies of single sites have the block granularity
only; policies that skip a range of layers hold one offset. Empty cells are unknown before a run.
"""
PUBLISHED_NOTE = """
The published TFLOPs seem to be counted differently: the ratios of fixed schedules agree to 0.1 % with a count that
omits the two matrix products inside attention and includes the decoding of the video (VAE). The columns "as published"
use that count. Our own count covers the whole transformer and nothing else. Attention therefore costs more, and the
ratios of PAB and T-GATE are 2 to 5 % lower.
"""
IMPLIED_NOTE = """{setting}: the computed steps are those expected in the config. The paper's ratio implies
{implied_steps:.1f} by our count, {implied_steps_as_published:.1f} if it was counted like the rest of its table.
"""


DEVICE_COLUMNS = (
    ("devices", "devices", "{}"),
    ("frames x guidance", "split", "{}"),
    ("setting", "setting", "{}"),
    ("TFLOPs/device", "tflops_per_device", "{:.1f}"),
    ("idle %", "idle_percent", "{:.1f}"),
    ("MB/computed step", "computed_mb", "{:.1f}"),
    ("MB/cheapest step", "reused_mb", "{:.1f}"),
    ("GB/run", "sent_gb", "{:.2f}"),
    ("predicted s", "predicted_s", "{:.2f}"),
    ("speedup", "speedup", "{:.2f}"),
    ("over baseline", "over_baseline", "{:.2f}"),
    ("as in paper", "predicted_whole_decoding_s", "{:.2f}"),
    ("paper s", "paper_latency_s", "{:.2f}"),
    ("error %", "error_percent", "{:+.1f}"),
)
DEVICE_NOTE = """
Costs of one video on several devices, per device; the first one is the busiest. MB and GB are what it sends. Idle is
the time that devices wait for it, because frames and patches do not divide evenly. "Speedup" compares with one device,
and "over baseline" with the baseline on as many devices.

The seconds are predicted, not measured: TFLOPs / {tflops:.1f} per second, plus bytes / {link:.0f} GB per second, plus
{message:.0f} microseconds per collective. Unless it was given, the compute rate is the one at which the baseline takes
the paper's latency on one device. Here, devices share the decoding of the VAE. In the column "as in paper", every
device decodes the whole video, as in the reference implementation; the error compares it with the paper's seconds,
which are quoted.
"""


def format_table(rows: list[dict[str, Any]], columns: tuple[tuple[str, str, str], ...]) -> str:
    """Return the rows aligned under their headers, without the columns that are empty."""
    columns = tuple(column for column in columns if any(row.get(column[1]) is not None for row in rows))
    lines = [[header for header, _, _ in columns]]
    for row in rows:
        lines.append(["" if row.get(key) is None else template.format(row[key]) for _, key, template in columns])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def describe_comparison(rows: list[dict[str, Any]], paper: str | None) -> str:
    """Return the table of a benchmark with its notes."""
    notes = COMPARISON_NOTE.format(**rows[0])
    if paper is not None:
        notes += "\n" + textwrap.fill(f"The paper's columns are quoted: {find_table(paper).source}", 112) + "\n"
    if rows[0].get("tflops_as_published") is not None:
        notes += PUBLISHED_NOTE
    notes += "".join(IMPLIED_NOTE.format(**row) for row in rows if row.get("implied_steps") is not None)
    hours = sum(row.get("paper_latency_s") or 0.0 for row in rows) * rows[0]["videos"] / 3600
    if hours:
        notes += (
            f"\nA100 hours for {rows[0]['videos']} videos per setting: {hours:.2f} in total over the rows with a "
            "quoted latency (quoted seconds x videos, not measured).\n"
        )
    return format_table(rows, COMPARISON_COLUMNS) + "\n" + notes.rstrip()


def describe_devices(rows: list[dict[str, Any]]) -> str:
    """Return the table of a benchmark on several devices with its notes."""
    rates = rows[0]["rates"]
    note = DEVICE_NOTE.format(tflops=rates["flops"] / 1e12, link=rates["link"] / 1e9, message=1e6 * rates["message"])
    return format_table(rows, DEVICE_COLUMNS) + "\n" + note.rstrip()


def plan_costs(
    paths: Sequence[Path], num_text_tokens: int | None, link: float | None = None, rate: float | None = None
) -> tuple[list[dict[str, Any]], str]:
    """Return the cost rows of all configs, and the text that shows them.

    Args:
        paths: configs of runs and of benchmarks.
        num_text_tokens: number of text tokens that cross-attention reads. For None, see `benchmark.costs`.
        link: bytes per second that leave a device, for benchmarks with `devices`; see `benchmark.device_costs`.
        rate: FLOPs per second of a device, for the same.

    Raises:
        FileNotFoundError: a config does not exist.
        ValueError: a config is invalid, or the number of tokens is below 1.
    """
    if num_text_tokens is not None and num_text_tokens < 1:
        raise ValueError(f"--text-tokens must be at least 1, got {num_text_tokens}")
    for flag, value, unit in (("--link-gb", link, 1e9), ("--tflops", rate, 1e12)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{flag} must be above 0 and finite, got {value / unit:g}")
    comparisons, runs = {}, []
    for path in paths:
        if is_comparison(path):
            comparisons[path] = load_comparison(path)
        else:
            # The costs do not depend on the prompts, so their file need not exist.
            runs.append(load_config(path, {"prompt": ["any"]}))
    if (link, rate) != (None, None) and not any(comparison.devices for comparison in comparisons.values()):
        raise ValueError(
            f"{'--tflops' if link is None else '--link-gb'} is for benchmarks with devices, such as "
            "paper/multi_gpu: leave it out, or name one"
        )
    from opensora_adacache.benchmark.costs import comparison_rows, run_row  # imports torch
    from opensora_adacache.benchmark.device_costs import device_rows

    rows = [run_row(config, num_text_tokens) for config in runs]
    texts = [format_table(rows, RUN_COLUMNS) + "\n" + RUN_NOTE.rstrip()] if rows else []
    for comparison in comparisons.values():
        compared = comparison_rows(comparison, num_text_tokens)
        texts.append(describe_comparison(compared, comparison.paper))
        rows += compared
        if comparison.devices:
            devices = device_rows(comparison, num_text_tokens, link, rate)
            texts.append(describe_devices(devices))
            rows += devices
    return rows, "\n\n".join(texts)
