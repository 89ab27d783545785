"""Costs of a benchmark's settings on several devices, beside the latencies that the paper prints for them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from opensora_adacache.benchmark.config import Comparison, Setting
from opensora_adacache.benchmark.costs import SHORT_PROMPT_TOKENS
from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.paper import find_table
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.costs.split_run import Rates, SplitCosts, split_costs, split_video


def device_rows(
    comparison: Comparison, num_text_tokens: int | None, link: float | None = None, flops: float | None = None
) -> list[dict[str, Any]]:
    """Return a row for each setting, number of devices and way to split them.

    Args:
        comparison: the benchmark, whose `devices` name the paper's tables.
        num_text_tokens: number of text tokens that cross-attention reads. None means `SHORT_PROMPT_TOKENS`.
        link: bytes per second that leave a device. None is the default of `Rates`.
        flops: FLOPs per second of a device. None is the rate at which the baseline takes the latency that the paper
            prints for the fewest devices.
    """
    tokens = SHORT_PROMPT_TOKENS if num_text_tokens is None else num_text_tokens
    baseline = Setting(BASELINE, comparison.run, BASELINE, BASELINE)
    rates = Rates(flops or implied_rate(comparison, tokens))
    if link is not None:
        rates = Rates(rates.flops, link)
    rows: list[dict[str, Any]] = []
    alone: dict[str, float] = {}
    whole = 0.0
    for number, table_name in sorted(comparison.devices.items()):
        table = find_table(table_name)
        for guidance in (1, 2) if number % 2 == 0 else (1,):
            for setting in (baseline, *comparison.settings):
                config = _open_sora(setting.config)
                split = split_video(config, number // guidance, guidance)
                costs = split_costs(config, setting.computed_steps, tokens, split, rates)
                if costs is None:
                    continue
                seconds = table.row(setting.paper).latency_s if setting.paper and guidance == 1 else None
                alone.setdefault(setting.name, costs.seconds)
                if setting is baseline:
                    whole = costs.seconds
                rows.append(
                    {
                        "setting": setting.name,
                        "devices": number,
                        "sequence": split.sequence,
                        "guidance": guidance,
                        "split": f"{split.sequence} x {guidance}",
                        **_figures(costs),
                        "speedup": alone[setting.name] / costs.seconds,
                        "over_baseline": whole / costs.seconds,
                        "paper_latency_s": seconds,
                        "error_percent": None
                        if seconds is None
                        else 100 * (costs.seconds_whole_decoding / seconds - 1),
                        "rates": asdict(rates),
                    }
                )
    return rows


def implied_rate(comparison: Comparison, num_text_tokens: int) -> float:
    """Return the FLOPs per second at which the baseline takes the latency that the paper prints for one device."""
    latency = find_table(comparison.devices[min(comparison.devices)]).row(BASELINE).latency_s
    run = _open_sora(comparison.run)
    costs = split_costs(run, None, num_text_tokens, split_video(run, 1, 1), Rates(1.0))
    assert latency is not None and costs is not None
    return costs.flops / latency


def _open_sora(config: RunConfig) -> OpenSoraConfig:
    if not isinstance(config, OpenSoraConfig):
        raise ValueError("devices are planned for Open-Sora's models only: leave devices out")
    return config


def _figures(costs: SplitCosts) -> dict[str, float]:
    return {
        "tflops_per_device": costs.flops / 1e12,
        "idle_percent": 100 * costs.idle,
        "computed_mb": costs.computed_bytes / 1e6,
        "reused_mb": costs.reused_bytes / 1e6,
        "sent_gb": costs.sent_bytes / 1e9,
        "predicted_s": costs.seconds,
        "predicted_whole_decoding_s": costs.seconds_whole_decoding,
    }
