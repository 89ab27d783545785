"""Pairs of videos by small real models, without a page."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from PIL import Image

from opensora_adacache.app.limits import Limits
from opensora_adacache.app.source import Source
from opensora_adacache.app.store import PairStore
from opensora_adacache.app.studio import Studio
from opensora_adacache.app.views import Ended, Making
from opensora_adacache.errors.family import AdaCacheError, ConfigError
from opensora_adacache.generation.records import read_record
from opensora_adacache.media.reading import read_video
from opensora_adacache.metrics.quality import psnr

FORM = {"prompt": "a red circle", "upload": None, "policy": "static", "speedup": 2.0, "seed": 3}


@pytest.fixture(scope="module")
def studio(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (folder / "run.py").write_text(f'{tiny_config}prompt = ["a red circle", "a blue square"]\n')
    (folder / "uploads").mkdir()
    store = PairStore(folder / "pairs", keep=False)
    with Studio(Source(str(folder / "run.py"), {}), store, folder / "uploads", Limits(), preview_every=3) as studio:
        yield studio


def ask(studio, page="page", **form):
    return studio.ask("someone", page, **{**FORM, **form})


@pytest.fixture(scope="module")
def states(studio):
    """All states of a pair that somebody followed."""
    ticket = ask(studio)
    states, show = [], ticket.show
    ticket.show = lambda state: (states.append(state), show(state))
    for _ in ticket.follow():
        pass
    return states


def test_every_step_of_both_runs_is_shown(states):
    pairs = [state.pair for state in states if isinstance(state, Making)]
    cached = [pair.cached.computed for pair in pairs if not pair.cached.is_finished]
    schedule = (True, False, True, False, True, False, True, True)
    assert list(dict.fromkeys(cached)) == [schedule[:length] for length in range(9)]
    baseline = [pair.baseline.computed for pair in pairs if pair.cached.is_finished]
    assert list(dict.fromkeys(baseline)) == [(True,) * length for length in range(9)]
    previews = [pair.cached.preview for pair in pairs if not pair.cached.is_finished]
    assert len(set(previews)) == 3 and previews[0] is None  # after steps 3 and 6
    assert all(content.startswith(b"\xff\xd8") for content in previews[-3:])


def test_the_videos_are_compared_and_written_with_their_records(states, studio):
    end = states[-1]
    assert isinstance(end, Ended) and end.line == ""
    folder = studio.store.folder(end.pair.token)
    baseline, cached = read_record(folder / "baseline.json"), read_record(folder / "cached.json")
    assert baseline.is_of(folder / "baseline.mp4") and cached.is_of(folder / "cached.mp4")
    assert (baseline.computed_steps, cached.computed_steps, cached.num_steps) == (8, 5, 8)
    assert (baseline.seed, cached.prompt) == (3, "a red circle")
    of_files = psnr(read_video(folder / "cached.mp4"), read_video(folder / "baseline.mp4"))
    assert end.pair.psnr == pytest.approx(of_files, abs=8) and end.pair.psnr < 100
    summary = json.loads((folder / "pair.json").read_text())
    assert summary["psnr"] == end.pair.psnr and summary["policy"] == "static 2x"
    assert summary["seconds"] == {run.name: run.seconds for run in end.pair.runs}
    assert end.pair.speedup == pytest.approx(baseline.seconds["denoising"] / cached.seconds["denoising"])
    assert studio.visitors.history("someone") == (end.pair,)


def test_the_cached_video_outlives_a_cancelled_pair(states, studio):
    """Only the baseline video is missing, because it was made last."""
    ticket = ask(studio)
    for state in ticket.follow():
        if isinstance(state, Making) and state.pair.baseline.computed:
            ticket.cancel()
    assert state.line == "cancelled" and state.pair.is_kept and not state.pair.is_finished
    assert sorted(file.name for file in studio.store.folder(ticket.token).iterdir()) == [
        *("cached.json", "cached.mp4", "pair.json")
    ]
    assert [pair.token for pair in studio.visitors.history("someone")][0] == ticket.token


def test_a_pair_that_is_cancelled_early_leaves_nothing(studio):
    before = studio.visitors.history("someone")
    folders = set(studio.store.root.iterdir())
    ticket = ask(studio)
    studio.visitors.end("page")
    assert list(ticket.follow())[-1].line.startswith("cancelled")
    list(ask(studio, page="another").follow())  # by the end of which the first has left the queue
    assert studio.visitors.history("someone")[1:] == before
    assert len(set(studio.store.root.iterdir()) - folders) == 1


@pytest.mark.parametrize(
    "form",
    [
        {"prompt": 'a {"reference_path": "/etc/hostname", "mask_strategy": "0"}'},
        {"policy": "teacache"},
        {"speedup": 9},
        {"seed": 0.5},
        {"upload": "/etc/hostname"},
    ],
)
def test_a_bad_form_is_refused_before_anything_is_made(form, studio):
    folders = set(studio.store.root.iterdir())
    with pytest.raises(AdaCacheError):
        ask(studio, **form)
    assert set(studio.store.root.iterdir()) == folders


@pytest.mark.slow
def test_a_reference_image_is_the_first_frame(studio, tmp_path):
    Image.new("RGB", (90, 70), (0, 0, 255)).save(studio.store.root.parent / "uploads/blue.png")
    ticket = ask(studio, upload=str(studio.store.root.parent / "uploads/blue.png"))
    end = list(ticket.follow())[-1]
    assert end.line == "" and end.pair.request.reference == studio.store.folder(ticket.token) / "reference.png"
    record = read_record(studio.store.folder(ticket.token) / "cached.json")
    assert len(record.settings["references"]) == 1 and record.settings["masks"]


@pytest.mark.slow
def test_the_app_makes_the_videos_of_the_command(studio, states, tmp_path):
    """The preview and the page change nothing: the same config makes the same bytes."""
    from opensora_adacache.generation.run import run

    end = states[-1]
    config = studio.source.run(end.pair.request, tmp_path, {"cache": {"type": "Static", "interval": 2}})
    run(config)
    made = studio.store.read(end.pair.token, "cached.mp4")
    assert (tmp_path / "sample_0000.mp4").read_bytes() == made.read_bytes()


@pytest.mark.slow
def test_two_pages_take_turns(studio):
    one, two = ask(studio, page="one"), ask(studio, page="two", prompt="a blue square")
    ends = {}
    threads = [
        threading.Thread(target=lambda ticket=ticket: ends.update({ticket.token: list(ticket.follow())[-1]}))
        for ticket in (one, two)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ends[ticket.token].pair.is_finished for ticket in (one, two))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_a_pipeline_of_diffusers(name, pipeline_config, tmp_path):
    (tmp_path / "run.py").write_text(pipeline_config(name))
    source = Source(str(tmp_path / "run.py"), {})
    with Studio(source, PairStore(tmp_path / "pairs", False), tmp_path, Limits(), 2) as studio:
        end = list(ask(studio).follow())[-1]
        assert end.line == "" and end.pair.psnr > 0
        assert end.pair.cached.computed == (True, False, True, False, True, True) and all(end.pair.baseline.computed)
        with pytest.raises(ConfigError, match="takes no reference image"):
            ask(studio, upload="a.png")


@pytest.mark.filterwarnings("ignore:the model's output is not finite")
def test_unusable_videos_are_told(studio, monkeypatch):
    from opensora_adacache.generation.maker import OpenSoraMaker

    denoise = OpenSoraMaker.denoise

    def broken(self, jobs, callback=None):
        with torch.no_grad():
            self.pipeline.transformer.final_layer.linear.bias += float("nan")
        try:
            decode = denoise(self, jobs, callback)
        finally:
            with torch.no_grad():
                self.pipeline.transformer.final_layer.linear.bias.zero_()
        return decode

    monkeypatch.setattr(OpenSoraMaker, "denoise", broken)
    end = list(ask(studio).follow())[-1]
    assert end.failed and "the cached video is unusable: denoising returned values that are not finite" in end.line
