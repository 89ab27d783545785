"""What a page shows of a pair: strip, chart, figures, and nothing that a prompt could smuggle in."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from opensora_adacache.app.chart import curves
from opensora_adacache.app.rendering import (
    render_empty,
    render_error,
    render_header,
    render_history,
    render_state,
)
from opensora_adacache.app.requests import PairRequest
from opensora_adacache.app.source import Source
from opensora_adacache.app.views import Ended, Making, PairView, RunView, Waiting
from opensora_adacache.generation.denoising_step import DenoisingStep

PROMPT = "<script>alert(1)</script> \" '"
TOKEN = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def source():
    return Source("scenes/sample", {})


@pytest.fixture
def pair():
    cached = RunView("cached", "adacache 2x", 4)
    for index, (computed, distance) in enumerate([(True, None), (True, 0.5), (False, None)]):
        cached = cached.after(
            DenoisingStep(index, 4, (computed,), lambda: None, (distance,), (1.0 if distance else None,))
        )
    return PairView(
        PairRequest(PROMPT, "adacache", 2.0, 7), (RunView("baseline", "baseline", 4), cached), "a note", TOKEN
    )


def cells(html):
    return [re.findall(r'<i(?: class="([cr])"[^>]*)?></i>', strip) for strip in html.split('class="oa-strip"')[1:]]


def test_the_strip_fills_step_by_step(pair, source):
    html = render_state(Making(pair), source)
    baseline, cached = (strip[:4] for strip in cells(html))
    assert (baseline, cached) == (["", "", "", ""], ["c", "c", "r", ""])
    assert "2 of 4 computed" in html and "adacache 2x: step 3 of 4" in html
    assert "<video" not in html and "data-finished" not in html


def test_curves_need_measurements():
    run = RunView("cached", "", 4, (True,) * 3, (None, 0.5, 0.25), (None, 1.0, 1.0))
    assert [curve.name for curve in curves(run)] == ["distance"]  # motion is not used
    distance, motion = curves(replace(run, motions=(None, 1.0, 0.5)))
    assert distance.line == "M375 8 L625 50" and (distance.latest, distance.highest) == (0.25, 0.5)
    assert motion.dots == "M375 8 h0 M625 50 h0"
    assert curves(RunView("baseline", "", 4, (True,))) == []
    assert curves(RunView("cached", "", 4, (True,), (0.0,)))[0].line == "M125 92"


def test_a_finished_pair_has_its_figures_and_downloads(pair, source):
    baseline, cached = (replace(run, seconds=seconds) for run, seconds in zip(pair.runs, (6.0, 2.0), strict=True))
    done = replace(pair, runs=(baseline, cached), psnr=31.25)
    html = render_state(Ended(done), source)
    assert f'data-finished="{TOKEN}"' in html
    for text in ("31.2 <small>dB", "3.00<small>x", "2.00 <small>baseline 6.00", f"made/{TOKEN}/pair.zip"):
        assert text in html
    assert html.count("<video ") == 2
    kept = render_state(Ended(replace(pair, runs=(pair.baseline, cached)), "cancelled"), source)
    assert kept.count("<video ") == 1 and "Download the video" in kept and "data-finished" not in kept
    assert "cancelled" in render_history([replace(pair, runs=(pair.baseline, cached))])


def test_texts_are_escaped(pair, source):
    pages = render_state(Making(pair), source), render_history([pair]), render_error(PROMPT, source)
    for html in (*pages, render_header(source, PROMPT)):
        assert "<script" not in html and "&lt;script&gt;alert(1)" in html


def test_waiting_errors_and_the_beginning(source):
    assert "waiting: 2 before yours" in render_state(Waiting(2), source)
    assert 'data-kind="failed"' in render_error("no", source)
    assert 'data-kind="empty"' in render_empty(source)
    assert "30 steps · 17 frames · 96x96" in render_header(source, "")
