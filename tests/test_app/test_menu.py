"""Which policies are offered for a model, and which settings a speedup stands for."""

from __future__ import annotations

import pytest

from opensora_adacache.app.menu import MOREG, OWN, Menu
from opensora_adacache.caching.registry import COMMAND_NAMES
from opensora_adacache.config import load_config
from opensora_adacache.config.calibrated import read_setting, write_calibrated
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting
from opensora_adacache.presets.user_folder import calibration_path


@pytest.fixture(scope="module")
def menu():
    return Menu(load_config("scenes/sample"))


def test_policies_with_settings_in_the_order_of_the_registry(menu):
    first, *others = menu.offers
    assert first == MOREG
    assert others == [name for name in COMMAND_NAMES if name in others]
    assert {"adacache", "forecastcache", "teacache", "magcache", "static"} <= set(others)
    assert not {"pab", "tgate"} & set(others)  # which nobody has calibrated
    assert menu.missing == ""


@pytest.mark.parametrize(
    ("policy", "speedup", "reference", "note"),
    [
        ("teacache", 2.2, "scenes_30.json#teacache-2.2x", "settings for 1.5x, 2.2x, 3x; 2.2x is used"),
        ("teacache", 4, "scenes_30.json#teacache-3x", "3x is used, the nearest to 4x"),
        ("magcache", 1.2, "scenes_30.json#magcache-1.5x", "settings for 1.5x, 2.2x; 1.5x is used"),
        ("adacache", 2.5, "scenes_30.json#adacache-2.5x", "settings for 1.5x, 2.2x, 2.5x, 3x; 2.5x is used"),
    ],
)
def test_the_nearest_calibrated_settings(policy, speedup, reference, note, menu):
    choice = menu.choose(policy, speedup)
    assert choice.changes == {"cache": read_setting(reference).section}
    assert note in choice.note and choice.label == f"{policy} {reference.rpartition('-')[2]}"


def test_adacache_with_motion_regularization(menu):
    section = menu.choose(MOREG, 2.2).changes["cache"]
    assert section["codebook"] == read_setting("scenes_30.json#adacache-2.2x").section["codebook"]
    assert section["moreg"] == read_setting("scenes_30.json#moreg").section


def test_forecastcache_has_settings_for_any_speedup(menu):
    choice = menu.choose("forecastcache", 2.7)
    assert choice.changes["cache"]["speedup"] == 2.7
    assert choice.note == "settings for any speedup; 2.7x is used"


def test_every_choice_is_a_valid_config(menu):
    for policy in menu.offers:
        config = load_config("scenes/sample", {"prompt": ["a"], **menu.choose(policy, 2).changes})
        assert config.cache is not None


@pytest.mark.parametrize("policy", ["tea", "", None, ["teacache"], "../teacache"])
def test_other_policies_are_refused(policy, menu):
    with pytest.raises(ConfigError, match="no policy .*: choose one of the list"):
        menu.choose(policy, 2)


@pytest.mark.parametrize("speedup", [1.1, 4.1, float("nan"), "2", None, True])
def test_other_speedups_are_refused(speedup, menu):
    with pytest.raises(ConfigError, match=r"the speedup must lie in 1.2..4, got"):
        menu.choose("adacache", speedup)


def test_settings_belong_to_a_number_of_steps():
    menu = Menu(load_config("scenes/sample", {"num_sampling_steps": 40}))
    assert list(menu.offers) == ["forecastcache", "static"]


def test_without_settings_the_command_is_named_and_static_remains():
    menu = Menu(load_config("wan/sample", {"prompt": ["a"]}))
    assert list(menu.offers) == ["static"]
    assert menu.missing.startswith("no settings of 'Wan-AI/Wan2.1-T2V-1.3B-Diffusers' for speedup 2: run ")
    assert "Wan-AI/Wan2.1-T2V-1.3B-Diffusers --policy forecastcache" in menu.missing
    assert menu.choose("static", 2.4).changes == {"cache": {"type": "Static", "interval": 2}}


def test_own_calibrations_of_a_pipeline():
    section = {"type": "TeaCache", "threshold": 0.1, "coefficients": [1.0, 0.0]}
    setting = CalibratedSetting(section, "2026-11-27", command="calibrate", speedup=2.0)
    path = calibration_path("Wan2.1-T2V-1.3B-Diffusers", "0123", 50)
    write_calibrated(path, CalibratedFile("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 50, {"a": setting}, digest="0123"))
    menu = Menu(load_config("wan/sample", {"prompt": ["a"]}))
    assert list(menu.offers) == ["teacache", "static"] and menu.missing == ""


def test_the_cache_of_the_config():
    menu = Menu(load_config("wan/sample_adacache", {"prompt": ["a"]}))
    assert list(menu.offers) == [OWN, "static"]
    choice = menu.choose(OWN, 3)
    assert (choice.changes, choice.label) == ({}, "as in the config")
