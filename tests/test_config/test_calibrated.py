"""Calibrated settings: writing, reading, use in configs, and that no other file holds their constants."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opensora_adacache.caching.codebook import OPEN_SORA_CODEBOOKS
from opensora_adacache.caching.registry import config_class
from opensora_adacache.config import load_config
from opensora_adacache.config.calibrated import FOLDER, fill_in, read_setting, write_calibrated
from opensora_adacache.config.section import build
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting, read_calibrated

ROOT = FOLDER.parents[1]
FILES = sorted(FOLDER.glob("*.json"))
FAST = CalibratedSetting(
    {"type": "AdaCache", "codebook": {0.08: 6, 1.0: 1}, "cache_loc": [13]}, "2026-11-27", command="calibrate"
)


@pytest.fixture
def file(tmp_path):
    """A file with one setting."""
    path = tmp_path / "found.json"
    write_calibrated(path, CalibratedFile("some/model", 30, {"fast": FAST}))
    return path


def test_what_is_written_comes_back(file):
    found = read_calibrated(file)
    assert found == CalibratedFile("some/model", 30, {"fast": FAST})
    assert json.loads(file.read_text())["version"] == 1
    assert read_setting(str(file)) == read_setting(f"{file}#fast") == FAST


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_settings_say_where_they_come_from(path):
    found = read_calibrated(path)
    assert found.settings and found.num_steps in (30, 50, 100)
    for setting in found.settings.values():
        assert setting.command or setting.source
        if setting.section["type"] != "MoReg":
            values = {key: value for key, value in setting.section.items() if key != "type"}
            profile = "sensitivity" in values and not {"tolerance", "steps"} & values.keys()
            budget = {"speedup": 2.0} if profile else {}
            build(config_class(setting.section["type"]), {**values, **budget}, path.stem)


def test_keys_of_the_section_override_the_file(file):
    section = fill_in({"calibrated": str(file), "cache_loc": (2,), "decision": "sample"}, 30, "cache")
    assert section == {"type": "AdaCache", "codebook": {0.08: 6, 1.0: 1}, "cache_loc": (2,), "decision": "sample"}
    assert fill_in({"type": "Static", "calibrated": None}, 30, "cache") == {"type": "Static"}


def test_moreg_beside_a_calibrated_moreg_changes_only_its_keys(file):
    section = {**FAST.section, "moreg": {"center": 0.3, "power": 2}}
    write_calibrated(file, CalibratedFile("some/model", 30, {"moving": replace(FAST, section=section)}))
    assert fill_in({"calibrated": str(file), "moreg": {"power": 8}}, 30, "cache")["moreg"] == {
        "center": 0.3,
        "power": 8,
    }


def test_steps_choose_the_file():
    for steps in (30, 100):
        section = fill_in({"calibrated": "open_sora_1_2_{steps}.json#adacache-fast"}, steps, "cache")
        assert section == read_setting(f"open_sora_1_2_{steps}.json#adacache-fast").section


def test_a_config_takes_codebook_and_motion_from_files():
    cache = load_config(ROOT / "configs" / "sample_30steps_adacache_fast_moreg.py").cache
    assert cache.codebook == {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1} and cache.cache_loc == (13,)
    assert (cache.moreg.center, cache.moreg.power, cache.moreg.gradient_weight) == (0.385, 8, 10)
    changed = load_config(
        ROOT / "configs" / "sample_30steps_adacache_fast_moreg.py",
        {"cache.codebook": {0.1: 2, 1.0: 1}, "cache.moreg.gradient_weight": 0.0},
    ).cache
    assert changed.codebook == {0.1: 2, 1.0: 1} and changed.moreg == replace(cache.moreg, gradient_weight=0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds no calibrated settings"),
        ('{"settings": {"a": {"section": {"type": "Static"}, "date": "d"}}}', "either the command .* or the source"),
        ('{"settings": {"a": {"section": {}, "date": "d", "command": "c"}}}', "an object with a type"),
        ('{"version": 2, "model": "m", "num_steps": 1, "settings": {}}', "format has version 2, this package reads"),
        ('{"model": ["m"], "num_steps": 1, "settings": {}}', r"model must be a string, got \['m'\]"),
        ('{"model": "m", "num_steps": "50", "settings": {}}', "num_steps must be a whole number .*, got '50'"),
        ('{"model": "m", "settings": {}}', "'num_steps' is missing"),
        ('{"settings": ["a"]}', r"settings must be an object of names and settings, got \['a'\]"),
        (
            '{"settings": {"a": {"section": {"type": "PAB"}, "date": "d", "command": "c", "speedup": 0}}}',
            "speedup must be above 0, got 0",
        ),
        ("[" * 100_000, "not JSON"),
        ('{"settings": {"a": {"section": {"type": "PAB"}}, "a": {}}}', "the key 'a' occurs twice: leave one of them"),
        ('{"settings": {"a": {"section": {"codebook": {"0.1": 4, "0.10": 2}}}}}', "the key 0.1 occurs twice"),
    ],
)
def test_a_file_of_another_kind(tmp_path, content, message):
    path = tmp_path / "found.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_calibrated(path)
    assert "\n" not in str(error.value) and "opensora-adacache calibrate" in str(error.value)


def test_settings_may_be_named_by_numbers(tmp_path):
    path, settings = tmp_path / "found.json", {}
    for name in ("2", "3.0"):
        section = {"type": "AdaCache", "codebook": {"0.1": int(float(name)), "1": 1}}
        settings[name] = {"section": section, "date": "d", "command": "c"}
    path.write_text(json.dumps({"model": "m", "num_steps": 30, "settings": settings}))
    assert read_setting(f"{path}#3.0").section["codebook"] == {0.1: 3, 1.0: 1}
    with pytest.raises(ValueError, match="has no setting '4', written .*; expected one of 2, 3.0"):
        read_setting(f"{path}#4")


def test_mistakes_in_a_reference(file):
    with pytest.raises(FileNotFoundError, match=r"'~nouser/none.json' does not exist; .*open_sora_1_2_30.json"):
        read_setting("~nouser/none.json#fast")
    with pytest.raises(FileNotFoundError, match=r"'none.json' does not exist; .*open_sora_1_2_30.json"):
        read_setting("none.json#fast")
    with pytest.raises(ValueError, match="has no setting 'fasst', written .*, did you mean 'fast'"):
        read_setting(f"{file}#fasst")
    with pytest.raises(ValueError, match="has several settings, .*; expected one of adacache-fast, adacache-slow"):
        read_setting("open_sora_1_2_30.json")
    with pytest.raises(ValueError, match="cache.type is 'Static', but '.*' has settings of 'AdaCache'; leave type out"):
        fill_in({"type": "Static", "calibrated": str(file)}, 30, "cache")
    with pytest.raises(ValueError, match="cache.calibrated must be a string"):
        fill_in({"calibrated": 3}, 30, "cache")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("fast", "open_sora_1_2_30.json#adacache-fast"),
        ("slow", "open_sora_1_2_30.json#adacache-slow"),
        ("100 steps", "open_sora_1_2_100.json#adacache-fast"),
    ],
)
def test_the_published_codebooks_that_warnings_know_are_the_quoted_ones(name, reference):
    assert read_setting(reference).section["codebook"] == OPEN_SORA_CODEBOOKS[name]


def test_no_config_repeats_a_calibrated_constant():
    """Only the JSON files hold codebooks, schedules and profiles."""
    for path in (ROOT / "configs").rglob("*.py"):
        text = Path(path).read_text()
        assert "codebook={" not in text and "coefficients" not in text and "growth" not in text, path
