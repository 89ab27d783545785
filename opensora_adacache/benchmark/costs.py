"""Costs of a run or of each setting of a benchmark, one row each, beside the paper's figures."""

from __future__ import annotations

from typing import Any

from opensora_adacache.adapters.probes import probed_layers
from opensora_adacache.benchmark.config import Comparison, Setting
from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.paper import PaperRow, PaperTable, find_table
from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.sites import SiteCacheConfig
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.costs import flops
from opensora_adacache.costs import run as run_flops

SHORT_PROMPT_TOKENS = 20
"""Text tokens assumed beside a table of the paper: the reference drops padding first, and its prompts are short."""


def run_row(config: RunConfig, num_text_tokens: int | None = None) -> dict[str, Any]:
    """Return the costs of a run, with the cache of its config if it has one."""
    return _row(config, BASELINE if config.cache is None else config.name, config.name, None, num_text_tokens)


def comparison_rows(comparison: Comparison, num_text_tokens: int | None = None) -> list[dict[str, Any]]:
    """Return the costs of the baseline and of each setting, beside those of the paper's table if the config names one.

    Args:
        comparison: the benchmark.
        num_text_tokens: number of text tokens that cross-attention reads. None means `SHORT_PROMPT_TOKENS` beside a
            table of the paper, and the maximum length of a prompt otherwise.

    Raises:
        ValueError: the paper has no such table, or the table has no such method.
    """
    table = None if comparison.paper is None else find_table(comparison.paper)
    if table is not None and num_text_tokens is None:
        num_text_tokens = SHORT_PROMPT_TOKENS
    baseline = Setting(BASELINE, comparison.run, BASELINE, BASELINE if table else None)
    videos = len(comparison.run.prompts) if comparison.prompts.heldout is None else comparison.prompts.heldout
    rows = []
    for setting in (baseline, *comparison.settings):
        row = _row(setting.config, setting.name, setting.title, setting.computed_steps, num_text_tokens)
        if setting.config.cache is None:
            row.update(cache_gb_stack=0.0, cache_gb_block=0.0)
        paper = table.row(setting.paper) if table and setting.paper else None
        rows.append({**row, **_quoted(paper, table), "videos": videos * comparison.num_seeds})
        if table is not None and table.row(BASELINE).tflops and isinstance(setting.config, OpenSoraConfig):
            rows[-1].update(_as_published(setting, setting.config, num_text_tokens, rows[-1]))
    return rows


def _row(
    config: RunConfig, name: str, title: str, computed_steps: float | None, num_text_tokens: int | None
) -> dict[str, Any]:
    size = run_flops.step_size(config, num_text_tokens)
    step = run_flops.step_flops(config, num_text_tokens)
    num_steps = config.num_sampling_steps
    every_step = step.run(num_steps, num_steps)
    total = run_flops.count_run(config, computed_steps, num_text_tokens)
    row: dict[str, Any] = {
        "config": config.name,
        "setting": name,
        "title": title,
        "size": _shown_size(config),
        "tokens": size.num_tokens,
        "text_tokens": size.num_text_tokens,
        "steps": num_steps,
        "computed_steps": _computed_steps(config, computed_steps),
        "tflops_step": step.computed / 1e12,
        "tflops_reused_step": step.reused / 1e12,
        "tflops_run": every_step / 1e12,
        "tflops": None if total is None else total / 1e12,
        "tflops_ratio": None if total is None else total / every_step,
        "paper_tflops": None,
        "paper_ratio": None,
    }
    for granularity, num_residuals in _count_residuals(config, size.depth).items():
        row[f"cache_gb_{granularity}"] = None
        if num_residuals is not None:
            num_residuals *= size.num_models
            num_bytes = flops.count_cache_bytes(
                num_residuals, size.num_tokens, size.hidden_size, size.bytes_per_value, size.num_rows
            )
            row[f"cache_gb_{granularity}"] = num_bytes / 1e9
    return row


def _shown_size(config: RunConfig) -> str:
    height, width = config.image_size or ("?", "?")
    return f"{height}x{width}x{config.num_frames or '?'}"


def _computed_steps(config: RunConfig, planned: float | None) -> float | None:
    """Return the computed steps of a stack policy if they are known; site policies compute a part of every step."""
    if isinstance(config.cache, SiteCacheConfig):
        return None
    fixed = run_flops.fixed_steps(config)
    return planned if fixed is None else fixed


def _count_residuals(config: RunConfig, depth: int) -> dict[str, int | None]:
    """Return how many residuals a cache holds per granularity; None for granularities that the policy lacks.

    For an uncached run, this is what AdaCache with one probe site would hold. The count leaves out the two outputs that
    the corrector keeps.
    """
    cache = config.cache
    if cache is not None and cache.granularity == "range":
        return {"stack": 1, "block": None}
    if cache is not None and cache.granularity == "prefix":
        return {"stack": None, "block": 2 * depth}
    if isinstance(cache, SiteCacheConfig):
        sites = [
            Site(layer, axis, kind) for layer in range(depth) for axis in "st" for kind in ("attn", "cross", "mlp")
        ]
        return {"stack": None, "block": cache.residuals_per_site * sum(map(cache.stores, sites))}
    probes = 1 if cache is None else cache.num_extra_residuals
    if cache is not None and cache.probe is not None and cache.probe.residual == "output":
        layers = len(probed_layers(cache.probe, depth))
        probes += 2 * layers if isinstance(config, OpenSoraConfig) else layers  # a spatial and a temporal block
    return {
        "stack": flops.count_residuals("stack", depth, probes),
        # Single blocks can only be reused in Open-Sora's models.
        "block": flops.count_residuals("block", depth, probes) if isinstance(config, OpenSoraConfig) else None,
    }


def _quoted(paper: PaperRow | None, table: PaperTable | None) -> dict[str, Any]:
    """Return the figures that the paper prints for a row."""
    if paper is None or table is None:
        return {"paper_method": None, "paper_latency_s": None}
    whole = table.row(BASELINE).tflops
    return {
        "paper_method": paper.method,
        "paper_tflops": paper.tflops,
        "paper_ratio": paper.tflops / whole if paper.tflops and whole else None,
        "paper_latency_s": paper.latency_s,
    }


def _as_published(
    setting: Setting, config: OpenSoraConfig, num_text_tokens: int | None, row: dict[str, Any]
) -> dict[str, Any]:
    """Return the FLOPs of a row counted as the published figures seem to be (see `flops`), and what those imply.

    The "implied" values are the computed steps that give the paper's ratio, by our count and by the published one.
    """
    whole = config.scheduler.num_sampling_steps
    step = run_flops.step_flops(config, num_text_tokens, attention_products=False)
    decoding = run_flops.decoding_flops(config, attention_products=False)
    total = run_flops.count_run(config, setting.computed_steps, num_text_tokens, attention_products=False)
    every_step = step.run(whole, whole) + decoding
    counted: dict[str, Any] = {"tflops_as_published": None, "ratio_as_published": None}
    if total is not None:
        counted = {
            "tflops_as_published": (total + decoding) / 1e12,
            "ratio_as_published": (total + decoding) / every_step,
        }
    if setting.computed_steps is not None and row["paper_ratio"] is not None:
        ours = run_flops.step_flops(config, num_text_tokens)
        counted["implied_steps"] = _steps_for(row["paper_ratio"] * row["tflops_run"] * 1e12, ours, whole)
        counted["implied_steps_as_published"] = _steps_for(row["paper_ratio"] * every_step - decoding, step, whole)
    return counted


def _steps_for(total: float, step: flops.StepFlops, num_steps: int) -> float:
    """Return the number of computed steps at which a run of `num_steps` takes `total` FLOPs."""
    return (total - num_steps * step.reused) / (step.computed - step.reused)
