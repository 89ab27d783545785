"""Comparing finished runs, and the page."""

from __future__ import annotations

import json
import re

import pytest
import torch

from opensora_adacache.benchmark.report.page import write_page
from opensora_adacache.benchmark.report.runs import compare, format_table, read_run
from opensora_adacache.commands.report import main as report
from opensora_adacache.generation.records import RUN_NAME, RunRecord, VideoRecord, list_videos, to_json
from opensora_adacache.generation.references import list_media
from opensora_adacache.generation.saving import save
from opensora_adacache.media.writing import encode_video


def make_run(folder, noise, computed, seconds, prompts=("a red <circle>", "a square")):
    """Write a run of tiny videos like `run_sample_video.sh`."""
    videos = []
    for index, prompt in enumerate(prompts):
        frames = torch.zeros(3, 5, 32, 32)
        frames[index, :, 8:24, 8:24] = 1.0
        frames += noise * torch.randn(frames.shape, generator=torch.Generator().manual_seed(index))
        path = folder / f"sample_{index:04d}.mp4"
        steps = [{"computed": step in computed} for step in range(1, 11)]
        record = VideoRecord(
            video=path.name,
            prompt=prompt,
            seed=index,
            index=index,
            sample=0,
            settings={},
            num_steps=10,
            computed_steps=len(computed) or 10,
            seconds={"denoising": seconds, "decoding": 0.1},
            peak_cache_bytes=1000,
            traces=[steps] if computed else [],
        )
        save(folder, encode_video(frames.clamp(-1, 1), 8), record)
        videos.append(record)
    run = RunRecord(
        state="complete",
        config_file="tiny.py",
        config={},
        versions={},
        device={},
        num_processes=1,
        seconds=[],
        num_videos=len(videos),
        num_finished=len(videos),
        videos=list_videos(videos),
    )
    (folder / RUN_NAME).write_bytes(to_json(run))


@pytest.fixture
def folders(tmp_path):
    for name, noise, computed, seconds in (("baseline", 0.0, (), 2.0), ("cached", 0.1, (1, 2, 9, 10), 0.8)):
        (tmp_path / name).mkdir()
        make_run(tmp_path / name, noise, computed, seconds)
    return [tmp_path / "baseline", tmp_path / "cached"]


def test_the_report_of_a_run_is_its_contact_sheet(folders, capsys):
    folder = folders[1]
    videos = list_media(folder)
    assert report([str(folder), "--title", "Mine"]) == 0
    assert capsys.readouterr().out == f"{folder}/contact_sheets/cached.png\n"
    assert list_media(folder) == videos  # in a folder of references, another picture would move the following ones


def test_comparison(folders):
    base, cached = compare(folders)
    assert base.psnr is None and base.computed_steps == 10
    assert cached.computed_steps == 4 and cached.videos[0].speedup == pytest.approx(2.5)
    assert cached.videos[0].record.schedule == (True, True, *[False] * 6, True, True)
    assert 15 < cached.psnr < 40
    table = format_table([base, cached])
    assert re.search(r"cached\s+4\.0 of 10\s+1\.60\s+2\.50x", table) and table.splitlines()[2].startswith("baseline")


def test_page_holds_everything(folders, tmp_path):
    page = tmp_path / "out" / "index.html"
    write_page(page, compare(folders), "Title & more")
    html = page.read_text()
    assert html.count("data:video/mp4;base64,") == 4 and "a red &lt;circle&gt;" in html and "Title &amp; more" in html
    assert html.count('<i class="c"></i>') == 2 * 10 + 2 * 4
    assert "http" not in html.replace("http-equiv", "")


def test_runs_that_do_not_pair(folders, tmp_path):
    (tmp_path / "other").mkdir()
    make_run(tmp_path / "other", 0.0, (), 1.0, prompts=("a triangle", "a square"))
    with pytest.raises(ValueError, match="'other' and 'baseline' differ in prompts or seeds"):
        compare([folders[0], tmp_path / "other"])


def test_missing_pieces(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="run.json' does not exist; name a folder"):
        read_run(tmp_path)
    (folders[0] / "sample_0001.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="sample_0001.mp4' is listed in run.json"):
        read_run(folders[0])
    (folders[1] / "sample_0000.json").write_text("{")
    with pytest.raises(ValueError, match="sample_0000.json' is not the record of a video .it is not valid JSON"):
        read_run(folders[1])
    whole = json.loads((folders[1] / "run.json").read_text())
    (folders[1] / "run.json").write_text(json.dumps({**whole, "videos": []}))
    with pytest.raises(ValueError, match="no finished video yet"):
        read_run(folders[1])
    (folders[1] / "run.json").write_text(json.dumps({**whole, "videos": [{"video": "../../etc/hostname"}]}))
    with pytest.raises(ValueError, match="must be the name of a file in the same folder"):
        read_run(folders[1])


def test_a_video_that_is_not_the_recorded_one_is_not_shown(folders):
    path = folders[0] / "sample_0001.mp4"
    path.write_bytes((folders[0] / "sample_0000.mp4").read_bytes())
    with pytest.raises(ValueError, match="sample_0001.mp4' does not match its record"):
        read_run(folders[0])
