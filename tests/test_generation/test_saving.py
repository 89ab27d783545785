"""A video and its record agree, whatever files were left behind."""

from __future__ import annotations

import os
import resource
from dataclasses import replace

import pytest

from opensora_adacache.generation.records import FileDigest, VideoRecord, read_record, to_json
from opensora_adacache.generation.saving import finish_interrupted, save
from opensora_adacache.media.files import write_unfinished

VIDEO = VideoRecord(
    video="sample_0000.mp4",
    prompt="a red circle",
    seed=7,
    index=0,
    sample=0,
    settings={},
    num_steps=8,
    computed_steps=8,
    seconds={"denoising": 1.0, "decoding": 1.0},
    peak_cache_bytes=0,
)
OLD, NEW = b"old video" * 100, b"new video" * 200


def names(folder):
    return sorted(os.listdir(folder))


def agree(folder, content):
    path = folder / VIDEO.video
    return path.read_bytes() == content and read_record(folder / "sample_0000.json").file == FileDigest.of(content)


def test_a_video_is_replaced_together_with_its_record(tmp_path):
    for content in (OLD, NEW):
        save(tmp_path, content, VIDEO)
        assert agree(tmp_path, content) and names(tmp_path) == ["sample_0000.json", "sample_0000.mp4"]


def test_a_full_disk_leaves_the_old_pair(tmp_path):
    save(tmp_path, OLD, VIDEO)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for record, limit in ((VIDEO, len(NEW) // 2), (replace(VIDEO, prompt="p" * 9000), 5000)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))  # of the video, then of the record alone
        try:
            with pytest.raises(OSError, match="cannot write '.*sample_0000"):
                save(tmp_path, NEW, record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert agree(tmp_path, OLD) and names(tmp_path) == ["sample_0000.json", "sample_0000.mp4"]


@pytest.mark.parametrize("had_old", [False, True])
@pytest.mark.parametrize("renamed", [False, True], ids=["before the renames", "between them"])
def test_two_complete_files_are_given_their_names(tmp_path, had_old, renamed):
    if had_old:
        save(tmp_path, OLD, VIDEO)
    part = write_unfinished(tmp_path / VIDEO.video, NEW)
    write_unfinished(tmp_path / "sample_0000.json", to_json(replace(VIDEO, file=FileDigest.of(NEW))))
    if renamed:
        part.rename(tmp_path / VIDEO.video)
    finish_interrupted(tmp_path)
    assert agree(tmp_path, NEW) and names(tmp_path) == ["sample_0000.json", "sample_0000.mp4"]


@pytest.mark.parametrize("record", [None, b"", to_json(replace(VIDEO, file=FileDigest.of(NEW)))[:-20]])
def test_what_is_incomplete_is_removed_and_the_old_pair_stays(tmp_path, record):
    save(tmp_path, OLD, VIDEO)
    write_unfinished(tmp_path / VIDEO.video, NEW)
    if record is not None:
        write_unfinished(tmp_path / "sample_0000.json", record)
    finish_interrupted(tmp_path)
    assert agree(tmp_path, OLD) and names(tmp_path) == ["sample_0000.json", "sample_0000.mp4"]


def test_a_record_whose_video_is_gone_is_removed(tmp_path):
    save(tmp_path, OLD, VIDEO)
    write_unfinished(tmp_path / "sample_0000.json", to_json(replace(VIDEO, file=FileDigest.of(NEW))))
    write_unfinished(tmp_path / "sample_0000.json", to_json(replace(VIDEO, file=None)))
    finish_interrupted(tmp_path)
    assert agree(tmp_path, OLD) and names(tmp_path) == ["sample_0000.json", "sample_0000.mp4"]


def test_only_files_of_this_kind_are_touched(tmp_path):
    kept = ["notes.part", f".{'0' * 31}.part", f"{'0' * 32}.part", f".{'g' * 32}.part", f".{'0' * 32}.tmp"]
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / f".{'0' * 32}.part").write_bytes(b"left over")
    finish_interrupted(tmp_path)
    assert names(tmp_path) == sorted(kept)
