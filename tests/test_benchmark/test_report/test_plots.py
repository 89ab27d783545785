"""The plots: drawn if there is data, reproducible, without global state."""

from __future__ import annotations

import builtins
import html
import re
import sys
from dataclasses import replace
from itertools import combinations

import pytest

from opensora_adacache.benchmark.report.drawing import MOTION_COLOURS, POLICY_STYLES, make_figure, policy_style
from opensora_adacache.benchmark.report.plots import (
    distance_histogram,
    distance_over_steps,
    draw_plots,
    forecast_error_over_steps,
    latency_breakdown,
    motion_over_steps,
    quality_against_speed,
    schedules,
)
from opensora_adacache.benchmark.results import MOTIONS
from opensora_adacache.benchmark.summary import summarize


@pytest.fixture(scope="module")
def plots(rows, comparison):
    return draw_plots(rows, summarize(rows, comparison), comparison)


def by_setting(rows):
    return {name: [row for row in rows if row.setting == name] for name in dict.fromkeys(row.setting for row in rows)}


def texts(svg):
    """Return the texts of a plot, which matplotlib writes as comments beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", svg)


def test_all_plots_in_order(plots):
    assert [plot.title for plot in plots] == [
        "Quality against speed",
        "Schedules",
        "Distance over the steps",
        "Motion over the steps",
        "Histogram of feature distances",
        "Where the time goes",
    ]
    for plot in plots:
        assert plot.svg.startswith("<?xml") and plot.svg.rstrip().endswith("</svg>") and "date" not in plot.svg


def test_axes_and_series_are_named(plots):
    quality, strips, distances, motions, histogram, latency = (texts(plot.svg) for plot in plots)
    assert {"FLOP speedup (×)", "PSNR to the baseline (dB)", "adacache", "oracle-video"} <= set(quality)
    assert {"AdaCache &amp; co: 3.0 of 6", "still", "slow", "fast", "computed", "reused"} <= set(strips)
    assert {"distance (relative L1 per step)", "step", "motion class"} <= set(distances)
    assert {"motion factor", "AdaCache &amp; co"} <= set(motions) and "Δ_best" not in motions
    assert {"adacache", "distance (logarithmic)"} <= set(histogram)
    assert {"Baseline", "seconds per video", "outside the loop", " 2.50"} <= set(latency)


def test_the_same_rows_give_the_same_svg(plots, rows, comparison):
    assert quality_against_speed(summarize(rows, comparison)) == plots[0]
    assert schedules(by_setting(rows)) == plots[1]
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_errors_of_forecasts_have_a_plot_of_their_own(rows):
    assert forecast_error_over_steps(by_setting(rows)) is None
    forecast = [replace(row, policy="forecastcache") for row in rows if row.policy == "adacache"]
    plot = forecast_error_over_steps(by_setting(forecast))
    assert {"relative error of the forecast", "AdaCache &amp; co", "motion class"} <= set(texts(plot.svg))
    assert distance_over_steps(by_setting(forecast)) is None


def test_what_was_not_measured_is_not_drawn(rows, comparison):
    plain = [replace(row, distances=[None] * 6, motions=[None] * 6) for row in rows]
    assert distance_over_steps(by_setting(plain)) is None and distance_histogram(plain) is None
    unmoved = [replace(row, motions=[None, 1.0, None, None, None, 1.0]) for row in rows]
    assert motion_over_steps(by_setting(unmoved)) is None and distance_over_steps(by_setting(unmoved)) is not None
    base = [row for row in rows if row.policy == "baseline"]
    assert schedules(by_setting(base)) is None and quality_against_speed(summarize(base, comparison)) is None
    cached = [row for row in rows if row.policy != "baseline"]
    assert latency_breakdown(by_setting(cached)) is None
    equal = summarize([replace(row, psnr=100.0) for row in rows], comparison)
    assert quality_against_speed(equal) is None


def test_every_motion_class_has_a_colour_of_its_own():
    assert tuple(MOTION_COLOURS) == MOTIONS and len(set(MOTION_COLOURS.values())) == len(MOTIONS)


def test_rows_without_a_motion_class(rows):
    plain = [replace(row, motion=None) for row in rows]
    assert "all" in texts(distance_histogram(plain).svg)
    assert "still" not in texts(schedules(by_setting(plain)).svg)


def test_policies_can_be_told_apart():
    for one, other in combinations(POLICY_STYLES.values(), 2):
        assert (one.colour, one.marker) != (other.colour, other.marker)
    assert policy_style("adacache") == POLICY_STYLES["adacache"] != policy_style("a new one")


def test_without_matplotlib(monkeypatch):
    real = builtins.__import__

    def no_matplotlib(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"pip install 'opensora-adacache\[eval\]'"):
        make_figure(1, 1)


@pytest.mark.parametrize("title", [r"$\frac$", "costs $5 and $6", r"$x_{$", "50 % & <b>", "_^{}"])
def test_text_is_text(rows, title):
    """A title that would be a formula to matplotlib, valid or not, is drawn as it is written."""
    rows = [replace(row, title=title) if row.setting == "adacache-fast" else row for row in rows]
    for plot, shown in ((schedules, f"{title}: 3.0 of 6"), (latency_breakdown, title)):
        assert shown in [html.unescape(text) for text in texts(plot(by_setting(rows)).svg)]
