"""Settings by model and speedup: presets, the user's own calibrations, and what is said where there are none."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.config import load_config
from opensora_adacache.config.calibrated import FOLDER, write_calibrated
from opensora_adacache.models import STDiT3
from opensora_adacache.models.structure import VARIANTS, STDiT3Config
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting, read_calibrated
from opensora_adacache.presets.identity import ModelIdentity, identity_of_pipeline, identity_of_stdit3
from opensora_adacache.presets.lookup import PRESETS, find_settings
from opensora_adacache.presets.user_folder import calibration_path, calibrations_folder
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "opensora_adacache" / "scenes" / "weights" / "transformer"
BUNDLED = identity_of_stdit3(STDiT3Config.from_dict(json.loads((WEIGHTS / "config.json").read_text())))
PUBLISHED = identity_of_stdit3(STDiT3Config.from_dict(VARIANTS["STDiT3-XL/2"]))
OTHER = ModelIdentity("Wan", "0123", "the model", "run me {policy} {steps}")
PROFILE = {"type": "ForecastCache", "sensitivity": [2.0, 1.0, 0.5], "growth": [3.0, 1.0]}


def add(model="a/Wan", digest="0123", num_steps=20, name="Wan", **settings):
    """Write a calibration of the user's own."""
    path = calibration_path(name, digest, num_steps)
    write_calibrated(path, CalibratedFile(model, num_steps, settings, digest=digest))
    return path


def found(section, speedup=2.0):
    return CalibratedSetting(section, "2026-11-27", command="calibrate", speedup=speedup)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.json")), ids=lambda path: path.stem)
def test_presets_are_calibrated_settings_of_the_repository_with_their_origin(path):
    """No preset holds constants of its own, and each says where they come from."""
    preset = read_calibrated(path)
    known = read_calibrated(FOLDER / path.name).settings
    assert preset.settings and preset.digest in (BUNDLED.digest, PUBLISHED.digest)
    for name, setting in preset.settings.items():
        assert setting.section == known[name].section
        assert (setting.command, setting.date) == (known[name].command, known[name].date)
        assert setting.source is None or setting.source.startswith(known[name].source)
        speedup = re.search(r"-([\d.]+)x$", name)
        assert setting.speedup == (
            float(speedup[1]) if speedup else {"adacache-fast": 2.24, "adacache-slow": 1.46}.get(name)
        )


@pytest.mark.parametrize(("num_steps", "computed"), [(30, 14), (50, 23), (100, 45), (10, 5)])
def test_the_bundled_model_has_a_profile_for_any_number_of_steps(num_steps, computed):
    config = find_settings(BUNDLED, 2.2).at(num_steps)
    assert isinstance(config, ForecastCacheConfig) and config.budget(num_steps) == computed
    assert config.corrector == 0.5 and len(config.sensitivity) == 30


def test_a_profile_is_not_stretched_too_far():
    with pytest.raises(ValueError, match="with 5 steps; there are ForecastCache for any speedup with 30 steps: run"):
        find_settings(BUNDLED, 2.2).at(5)
    with pytest.raises(ValueError, match="with 500 steps"):
        find_settings(BUNDLED, 2.2, "forecastcache").at(500)


def test_codebooks_are_for_their_own_speedup_and_steps():
    config = find_settings(BUNDLED, 2.25, "adacache").at(30)
    assert config.codebook == read_calibrated(FOLDER / "scenes_30.json").settings["adacache-2.2x"].section["codebook"]
    with pytest.raises(
        ValueError, match="no AdaCache settings .* for speedup 2.25 with 40 steps; there are AdaCache at"
    ):
        find_settings(BUNDLED, 2.25, "adacache").at(40)
    with pytest.raises(
        ValueError, match="no AdaCache settings .* for speedup 2; there are AdaCache at 1.5x with 30 st"
    ):
        find_settings(BUNDLED, 2, "adacache")
    # the published model has quoted codebooks alone
    config = find_settings(PUBLISHED, 2.2).at(30)
    assert isinstance(config, AdaCacheConfig) and config.cache_loc == (13,)
    with pytest.raises(ValueError, match="no ForecastCache settings of an STDiT3 of depth 28 and width 1152"):
        find_settings(PUBLISHED, 2.2, "forecastcache")


def test_without_any_the_command_is_named():
    with pytest.raises(ValueError) as caught:
        find_settings(OTHER, 2.2)
    assert str(caught.value) == "no settings of the model for speedup 2.2: run run me forecastcache N --speedup 2.2"
    pipeline = identity_of_pipeline("THUDM/CogVideoX-2b", "CogVideoXTransformer3DModel", {})
    with pytest.raises(
        ValueError, match="of 'THUDM/CogVideoX-2b' for speedup 3: run opensora-adacache calibrate-pipeline"
    ):
        find_settings(pipeline, 3)
    for wrong, message in ((0.5, "at least 1, got 0.5"), (math.inf, "got inf"), ("2", "got '2'")):
        with pytest.raises(ValueError, match=message):
            find_settings(BUNDLED, wrong)
    with pytest.raises(ValueError, match="policy must be one of forecastcache, adacache, got 'teacache'"):
        find_settings(BUNDLED, 2, "teacache")


def test_own_calibrations_are_found_by_name_and_digest():
    add(forecast=found(PROFILE))
    assert find_settings(OTHER, 3).at(20) == ForecastCacheConfig(speedup=3, sensitivity=(2, 1, 0.5), growth=(3, 1))
    for changed in (
        replace(OTHER, name="Wan-2"),
        replace(OTHER, digest="4567"),
        replace(OTHER, name=None, digest=None),
    ):
        with pytest.raises(ValueError, match="no settings"):
            find_settings(changed, 3)
    # a model made in memory has no name, one that is not loaded yet no digest
    for known in (replace(OTHER, name=None), replace(OTHER, digest=None)):
        assert find_settings(known, 3).at(20).sensitivity == (2, 1, 0.5)


def test_the_nearest_number_of_steps_and_speedup():
    add(num_steps=20, near=found(PROFILE, 1.5), far=found({**PROFILE, "order": 2}, 3.0))
    add(num_steps=50, other=found({**PROFILE, "growth": [7.0]}))
    settings = find_settings(OTHER, 2.9)
    assert settings.at(20).order == 2 and settings.at(50).growth == (7.0,)
    assert find_settings(OTHER, 1.6).at(25).order == 1


def test_a_damaged_file_is_named():
    path = add(forecast=found(PROFILE))
    path.write_text("{")
    with pytest.raises(ValueError, match=f"'{path}' holds no calibrated settings"):
        find_settings(OTHER, 2)


def test_settings_that_the_policy_does_not_take_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENSORA_ADACACHE_CALIBRATIONS", str(tmp_path))
    add(forecast=found({**PROFILE, "of_a_later_version": 1}))
    with pytest.raises(
        ValueError, match=f"of_a_later_version.*: calibrate again, or remove their file from '{tmp_path}"
    ):
        find_settings(OTHER, 2).at(20)


def test_the_folder_of_calibrations(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENSORA_ADACACHE_CALIBRATIONS", str(tmp_path))
    assert calibrations_folder() == tmp_path
    monkeypatch.delenv("OPENSORA_ADACACHE_CALIBRATIONS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert calibrations_folder() == tmp_path / "opensora_adacache" / "calibrations"
    monkeypatch.setenv("XDG_CACHE_HOME", "~nouser")  # a home that nobody has
    assert calibrations_folder() == Path("~nouser/opensora_adacache/calibrations")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert calibrations_folder() == Path.home() / ".cache" / "opensora_adacache" / "calibrations"


def test_apply_cache_with_a_speedup():
    model = STDiT3.from_pretrained(WEIGHTS)
    with apply_cache(model, speedup=2.2, num_sampling_steps=30) as session:
        assert session.config == find_settings(BUNDLED, 2.2).at(30)
    with apply_cache(model, speedup=2.2, policy="adacache", num_sampling_steps=30) as session:
        assert isinstance(session.config, AdaCacheConfig)
    for arguments, message in (
        ({}, "either settings or speedup=X, got neither"),
        ({"config": AdaCacheConfig({1.0: 1}), "speedup": 2}, "got both"),
        ({"config": AdaCacheConfig({1.0: 1}), "policy": "forecastcache"}, "policy goes with speedup"),
        ({"config": 2.2}, "an instance of a CacheConfig, got float"),
        ({"speedup": 2.2, "num_sampling_steps": None}, "needs num_sampling_steps"),
    ):
        with pytest.raises(ValueError, match=message):
            apply_cache(model, **{"num_sampling_steps": 30, **arguments})


def test_a_pipeline_takes_the_number_of_steps_of_each_call():
    pipeline = make_pipeline("wan")
    with pytest.raises(
        ValueError, match="no settings of WanTransformer3DModel for speedup 2: run opensora-adacache cali"
    ):
        apply_cache(pipeline, speedup=2)
    identity = identity_of_pipeline("", "WanTransformer3DModel", pipeline.transformer.config)
    profile = {**PROFILE, "corrector": 0.5}
    add("wan", identity.digest, 12, forecast=found(profile))
    add("wan", identity.digest, 8, forecast=found({**profile, "growth": [9.0]}))

    def steps(number):
        pipeline("a", **call_arguments("wan"), num_inference_steps=number)
        return [len(computed_steps(branch.trace)) for branch in session.branches.values()]

    with apply_cache(pipeline, speedup=2) as session:
        assert [steps(number) for number in (12, 10, 8)] == [[6, 6], [5, 5], [4, 4]]
        assert session.config.growth == (9.0,) and session.branches["cond"].config == session.config
        with pytest.raises(
            ValueError, match="with 60 steps; there are ForecastCache for any speedup with 8/12 steps: run"
        ):
            steps(60)


def test_a_config_names_a_speedup(tmp_path):
    path = tmp_path / "config.py"
    base = ROOT / "configs" / "scenes" / "sample.py"
    path.write_text(f'_base_ = ["{base}"]\ncache = dict(policy="forecastcache", speedup=2.2, decision="sample")\n')
    config = load_config(path, {"prompt": ["a red circle"]})
    assert config.cache == replace(find_settings(BUNDLED, 2.2).at(30), decision="sample")
    path.write_text(f'_base_ = ["{base}"]\ncache = dict(policy="forecastcache", speedup=2.2, type="AdaCache")\n')
    with pytest.raises(ValueError, match="cache.policy goes with cache.speedup alone, got type too"):
        load_config(path, {"prompt": ["a red circle"]})
