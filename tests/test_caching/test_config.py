"""Settings reject invalid values with a one-line error."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import MISSING, asdict, fields

import numpy
import pytest

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.moreg import MoRegConfig
from opensora_adacache.caching.registry import POLICIES, config_class

BOOK = {0.1: 3, 1.0: 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache_res": "attn"}, "cache_res must be one of t-attn, s-attn, ca-mlp, got 'attn'"),
        ({"granularity": "layer"}, "granularity must be one of stack, block, got 'layer'"),
        ({"decision": "video"}, "decision must be one of batch, sample, got 'video'"),
        ({"metric": "l3"}, "metric must be one of l1, l2, cosine, got 'l3'"),
        ({"cache_loc": ()}, "cache_loc must name layers"),
        ({"cache_loc": (-1,)}, "cache_loc must name layers"),
        ({"moreg": True}, "moreg must be a MoRegConfig or None, got bool"),
    ],
)
def test_bad_adacache(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaCacheConfig(BOOK, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": (0,)}, "strides must be whole numbers of at least 1"),
        ({"strides": ()}, "strides"),
        ({"steps": (5, 4)}, "first <= last, got"),
        ({"steps": (0, 4)}, "counted from 1"),
        ({"center": 0}, "center must be above 0, got 0"),
        ({"divisor": -1}, "divisor must be above 0, got -1"),
        ({"power": -2}, "power must not be negative, got -2"),
    ],
)
def test_bad_moreg(arguments, message):
    with pytest.raises(ValueError, match=message):
        MoRegConfig(**arguments)


WRONG = ["x", "", float("nan"), float("inf"), -1, -0.5, True, 10**400, object(), [], ["x"], [float("inf")], {}, b"1"]


def settings_of(config):
    """Return the required settings of a class whose defaults are not sufficient."""
    needed = {"AdaCacheConfig": {"codebook": BOOK}, "MagCacheConfig": {"ratios": (1.0, 0.9)}}
    needed["SenCacheConfig"] = {"input_sensitivities": (1.0, 0.9), "time_sensitivities": (1.0, 0.9)}
    needed |= dict.fromkeys(
        (
            "PlannedConfig",
            "PlannedForecastConfig",
            "DPCacheConfig",
            "LeMiCaConfig",
            "BudCacheConfig",
            "GCacheConfig",
            "ReCacheConfig",
        ),
        {"steps": (1, 2)},
    )
    needed["L2PConfig"] = {"steps": (1, 2), "weights": ((-1.0, 2.0),)}
    needed["MeanCacheConfig"] = {"steps": (1, 2), "spans": (1, 1), "lengths": (1.0,) * 30}
    needed["UnshiftedERTACacheConfig"] = {"steps": (1, 2)}
    return needed.get(config.__name__, {"speedup": 2} if config.__name__ == "ForecastCacheConfig" else {})


@pytest.mark.parametrize("name", [*POLICIES, "MoReg"])
def test_no_setting_gives_another_error_than_value_error(name):
    config = MoRegConfig if name == "MoReg" else config_class(name)
    given = settings_of(config)
    config(**given)
    refused = 0
    for field in fields(config):
        for value in WRONG:
            try:
                config(**{**given, field.name: value}).check_run(30, 4)
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error)
            except AttributeError:
                assert name == "MoReg"  # which has no check_run
    assert refused > len(fields(config))


@pytest.mark.parametrize("name", [*POLICIES, "MoReg"])
def test_numbers_of_numpy_are_plain_numbers(name):
    config = MoRegConfig if name == "MoReg" else config_class(name)
    defaults = {f.name: f.default for f in fields(config) if f.default not in (MISSING, None)}
    given = defaults | settings_of(config)
    if "computed_steps" in given or "speedup" in given:
        given = {"speedup": 2.0}
    made = config(**{key: of_numpy(value) for key, value in given.items()})
    assert made == config(**given) and json.loads(json.dumps(asdict(made))) == json.loads(
        json.dumps(asdict(config(**given)))
    )


def of_numpy(value):
    if type(value) is int:
        return numpy.int64(value)
    if type(value) is float:
        return numpy.float64(value)
    if isinstance(value, tuple) and value:
        return numpy.array(value)
    if isinstance(value, dict):
        return {of_numpy(key): of_numpy(entry) for key, entry in value.items()}
    return value


def test_a_number_of_steps_may_be_one_of_numpy():
    for count in (numpy.int64(30), numpy.uint8(30)):
        AdaCacheConfig(BOOK).check_run(count, 4)
    for count in (numpy.float64(30), numpy.bool_(True), numpy.int64(0), True, 30.0, "30", None):
        with pytest.raises(ValueError, match="num_sampling_steps must be a whole number of at least 1"):
            AdaCacheConfig(BOOK).check_run(count, 4)


def test_lists_become_tuples_and_layers_sort():
    config = AdaCacheConfig(BOOK, cache_loc=[3, 1, 3], moreg=MoRegConfig(strides=[1, 2], steps=[2, 9]))
    assert config.cache_loc == (1, 3) and config.moreg.strides == (1, 2) and config.moreg.steps == (2, 9)


def test_the_codebook_is_a_copy():
    book = dict(BOOK)
    config = AdaCacheConfig(book)
    book[0.1] = 9
    assert config.codebook == BOOK


@pytest.mark.parametrize("name", POLICIES)
def test_settings_of_no_policy_import_torch(name):
    code = (
        "import sys; from opensora_adacache import CacheConfig, CachePolicy; "
        "from opensora_adacache.caching.registry import config_class; "
        f"sys.exit(not issubclass(config_class({name!r}), CacheConfig) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_window_in_fractions_fits_any_number_of_steps():
    moreg = MoRegConfig(steps=(0.1, 0.9))
    assert [moreg.window(n) for n in (100, 30, 7, 1)] == [(10, 90), (3, 27), (1, 6), (1, 1)]
    AdaCacheConfig(BOOK, moreg=moreg).check_run(30, 4)
    assert MoRegConfig(steps=(0.0, 1.0)).window(30) == (1, 30)
    assert MoRegConfig(steps=(1, 1)).window(30) == (1, 1)
    assert MoRegConfig(steps=(4.0, 26.0)) == MoRegConfig(steps=(4, 26))


def test_a_corrector_needs_skipped_steps_of_the_whole_stack():
    with pytest.raises(ValueError, match=r"a corrector needs .* granularity is 'site': set corrector=0"):
        config_class("PAB")(corrector=0.5)
    assert config_class("TeaCache")(threshold=0.1, corrector=0.5).corrector == 0.5
