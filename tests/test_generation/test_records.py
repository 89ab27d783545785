"""Records: written records are read back, and anything else is refused in one line."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.generation.records import (
    VERSION,
    FileDigest,
    RunRecord,
    VideoRecord,
    from_json,
    read_record,
    read_run,
    to_json,
)

VIDEO = VideoRecord(
    video="sample_0000.mp4",
    file=FileDigest.of(b"video"),
    run="a run",
    prompt="a red circle",
    seed=7,
    index=0,
    sample=0,
    settings={"texts": ["a red circle"], "cache": None},
    num_steps=8,
    computed_steps=4,
    batch_size=2,
    seconds={"denoising": 1.5, "decoding": 0.5},
    peak_cache_bytes=1000,
    traces=[[{"step": 1, "computed": True, "distance": None}]],
)
RUN = RunRecord(
    run="a run",
    state="complete",
    config_file="tiny.py",
    config={"seed": 7},
    versions={"torch": "2.0"},
    device={"type": "cpu"},
    num_processes=1,
    seconds=[{"total": 1.0}],
    num_videos=1,
    num_finished=1,
    videos=[{"video": "sample_0000.mp4"}],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("record", [VIDEO, RUN], ids=["video", "run"])
def test_what_is_written_is_read_again(record):
    assert from_json(type(record), to_json(record)) == record
    assert json.loads(to_json(record))["version"] == VERSION


def test_numbers_that_are_not_finite_become_null():
    traces = [[{"step": 1, "distance": math.nan}, {"step": 2, "distance": math.inf}]]
    written = to_json(VideoRecord(**{**vars(VIDEO), "traces": traces}))
    assert b"NaN" not in written and b"Infinity" not in written
    assert from_json(VideoRecord, written).traces == [[{"step": 1, "distance": None}, {"step": 2, "distance": None}]]


def test_names_of_files_that_are_not_utf8():
    record = VideoRecord(**{**vars(VIDEO), "settings": {"references": [os.fsdecode(b"caf\xe9.png")]}})
    assert from_json(VideoRecord, to_json(record)) == record


def test_a_record_without_a_version_is_of_version_1():
    old = {key: value for key, value in json.loads(to_json(VIDEO)).items() if key not in ("version", "file", "run")}
    record = from_json(VideoRecord, json.dumps(old).encode())
    assert (record.version, record.file, record.run) == (1, None, None)


def test_a_record_knows_its_video(tmp_path):
    (tmp_path / "sample_0000.mp4").write_bytes(b"video")
    assert VIDEO.is_of(tmp_path / "sample_0000.mp4")
    for other in (b"vide", b"veido"):
        (tmp_path / "sample_0000.mp4").write_bytes(other)
        assert not VIDEO.is_of(tmp_path / "sample_0000.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not valid JSON"),
        (b"\xff\xfe\x00{", "it is not valid JSON"),
        (b"[]", "expected a JSON object, got list"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"version": 3}', "its version is 3, but this package reads versions up to 2"),
        (b'{"version": "2"}', "its version is '2'"),
        (b"{}", "a key is missing"),
    ],
    ids=["empty", "not text", "list", "deep", "newer", "version as text", "no keys"],
)
def test_what_is_no_record_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "sample_0000.json").write_bytes(content)
    (tmp_path / "run.json").write_bytes(content)
    for read in (lambda: read_record(tmp_path / "sample_0000.json"), lambda: read_run(tmp_path)):
        with pytest.raises(ValueError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", "../x.mp4", "/etc/hostname", "a/b.mp4", "a\0b"])
def test_a_record_names_no_file_outside_its_folder(name):
    content = json.dumps({**json.loads(to_json(VIDEO)), "video": name}).encode()
    with pytest.raises(ValueError, match="video must (be the name of a file in the same folder|not hold null)"):
        from_json(VideoRecord, content)


@given(st.sampled_from([VIDEO, RUN]), st.data())
def test_a_wrong_value_anywhere_is_a_value_error_or_harmless(record, data):
    values = json.loads(to_json(record))
    for key in data.draw(st.lists(st.sampled_from(sorted(values)), max_size=3)):
        values[key] = data.draw(JSON)
    content = data.draw(st.just(json.dumps(values).encode()) | st.binary(max_size=20))
    try:
        read = from_json(type(record), content)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert from_json(type(record), to_json(read)) == read or "NaN" in content.decode() or "Inf" in content.decode()
