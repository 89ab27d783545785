"""PSNR against speed, with a curve for each policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opensora_adacache.benchmark.report.drawing import add_legend, make_figure, policy_style, style_axes, to_svg
from opensora_adacache.benchmark.report.plots.plot import Plot
from opensora_adacache.benchmark.summary import SettingSummary
from opensora_adacache.metrics.bootstrap import Interval
from opensora_adacache.metrics.quality import PSNR_CAP


def quality_against_speed(summaries: Sequence[SettingSummary]) -> Plot | None:
    """Draw PSNR against steps / computed steps and against the FLOP speedup, with a curve for each policy."""
    # A setting that computes every step makes the baseline videos; its 100 dB would flatten the other curves.
    shown = [s for s in summaries if s.psnr is not None and s.psnr.mean < PSNR_CAP]
    if not shown:
        return None
    figure = make_figure(9.6, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    speeds = (
        ("steps / computed steps", lambda s: s.num_steps / s.computed_steps),
        ("FLOP speedup", lambda s: s.flop_speedup),
    )
    policies = list(dict.fromkeys(s.setting.policy for s in shown))
    for axes, (label, speed) in zip(panels, speeds, strict=True):
        style_axes(axes, f"{label} (×)", "PSNR to the baseline (dB)" if axes is panels[0] else "")
        for policy in policies:
            points = sorted(
                (speed(s), s.psnr.mean, *_reach(s.psnr))
                for s in shown
                if s.setting.policy == policy and s.psnr is not None and speed(s) is not None
            )
            if not points:
                continue
            x, y, below, above = zip(*points, strict=True)
            style = policy_style(policy)
            axes.errorbar(
                x,
                y,
                # Rounding can put a mean slightly outside its interval.
                yerr=np.clip([below, above], 0, None),
                label=policy,
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                markersize=5.5,
                linewidth=1.4,
                elinewidth=0.8,
                capsize=2,
            )
    add_legend(figure, panels, "policy")
    return Plot(
        "Quality against speed",
        "PSNR of raw frames against the baseline, by the speedup in computed steps (left) and in FLOPs (right). Each "
        "point is a setting and each curve a policy; bars are 95 % intervals over prompts. Up and to the right is "
        "better. Settings whose videos equal the baseline's are left out.",
        to_svg(figure),
    )


def _reach(interval: Interval) -> tuple[float, float]:
    """Return how far an interval extends below and above its mean; both are 0 if there is no interval."""
    low, high = (interval.mean if end is None else end for end in (interval.low, interval.high))
    return interval.mean - low, high - interval.mean
