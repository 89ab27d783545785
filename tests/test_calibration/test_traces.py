"""Codebooks and traces in files: what `replay` reads, and what it refuses."""

from __future__ import annotations

import json

import pytest

from opensora_adacache.caching.trace import StepRecord, trace_to_json
from opensora_adacache.calibration.traces import read_codebook, read_traces
from opensora_adacache.config import load_config

BOOK = {0.08: 6, 1.0: 1}
TRACE = [StepRecord(step, True, 0.1 if step > 1 else None, None, None, 1, 2, 1.0) for step in (1, 2, 3)]


@pytest.fixture
def write(tmp_path):
    def write(content, name="file.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_a_codebook_by_itself_and_in_a_section(write):
    assert read_codebook(str(write({"0.08": 6, "1": 1}))) == BOOK
    assert read_codebook(str(write({"type": "AdaCache", "codebook": {"0.08": 6, "1": 1}}, "a #2/file.json"))) == BOOK


def test_a_config_of_any_kind(write):
    """By its path, or by the name of one that ships with the package."""
    shipped = load_config("scenes/sample_adacache").cache.codebook
    path = load_config("scenes/sample_adacache").path
    sources = ["scenes/sample_adacache", path, write({"_base_": str(path)}), write(f"_base_: {path}", "file.yaml")]
    assert [read_codebook(str(source)) for source in sources] == [shipped] * 4


def test_a_calibrated_setting(write):
    setting = {"section": {"type": "AdaCache", "codebook": {"0.08": 6, "1": 1}}, "date": "d", "command": "c"}
    path = write({"model": "m", "num_steps": 30, "settings": {"fast": setting}})
    assert read_codebook(f"{path}#fast") == read_codebook(str(path)) == BOOK
    path = write({"model": "m", "num_steps": 30, "settings": {"fast": setting, "slow": setting}})
    with pytest.raises(ValueError, match="has several settings, written .*; expected one of fast, slow"):
        read_codebook(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0.1": 4, "0.1": 2}', "the key '0.1' occurs twice"),
        ('{"0.1": 4, "0.10": 2}', "the key 0.1 occurs twice"),
        ("{", "is not valid JSON"),
        ("[]", "holds no codebook such as"),
        ('{"_base_": "gone.py"}', "a _base_ of config .* does not exist"),
        ('{"cache": null}', "needs a section model"),
        ('{"model": {"do_cache": true}}', "needs a section vae"),
    ],
)
def test_no_codebook(write, content, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        read_codebook(str(write(content)))
    assert "\n" not in str(error.value)


def test_a_record_of_another_policy(write):
    record = {"traces": [trace_to_json(TRACE)], "settings": {"cache": {"type": "AdaCache"}}}
    assert read_traces(write(record)) == read_traces(write(trace_to_json(TRACE))) == [TRACE]
    record["settings"]["cache"]["type"] = "ForecastCache"
    with pytest.raises(ValueError, match="is of a video made with ForecastCache; name one made with AdaCache"):
        read_traces(write(record))
