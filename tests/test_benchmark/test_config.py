"""Benchmark configs: a baseline and the settings to compare with it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from opensora_adacache.benchmark.config import Prompts, is_comparison, load_comparison
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig

STATIC = "settings = dict(every2=dict(cache=dict(type='Static', interval=2)))\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a benchmark config beside a small run config."""
    (tmp_path / "run.py").write_text(
        "image_size = (64, 64)\nnum_frames = 17\nfps = 8\nprompt = ['a cat', 'a dog']\n"
        "model = dict(type='STDiT3-XL/2', from_pretrained='owner/transformer')\n"
        "vae = dict(from_pretrained='owner/vae')\ntext_encoder = dict(from_pretrained='owner/t5')\n"
        "scheduler = dict(num_sampling_steps=10)\n"
    )

    def write_config(text: str) -> Path:
        path = tmp_path / "compare.py"
        path.write_text(text)
        return path

    return write_config


def test_every_key(write):
    path = write(
        """
_interval = 3
run = "run.py"
overrides = {"scheduler.num_sampling_steps": 12, "seed": 5}
prompts = dict(heldout=64, seed=31)
num_seeds = 2
metrics = ["psnr", "lpips"]
paper = "a table"
settings = dict(
    fast=dict(
        cache=dict(type="AdaCache", codebook={0.1: 3, 1.0: 1}), paper="AdaCache-fast", computed_steps=5, title="Fast"
    ),
    large=dict(cache=dict(type="Static", interval=_interval), overrides=dict(image_size=(128, 64))),
)
"""
    )
    comparison = load_comparison(path)
    assert comparison.path == path and comparison.run.cache is None
    assert (comparison.run.scheduler.num_sampling_steps, comparison.run.seed) == (12, 5)
    assert comparison.prompts == Prompts(heldout=64, seed=31)
    assert (comparison.num_seeds, comparison.metrics, comparison.paper) == (2, ("psnr", "lpips"), "a table")
    fast, large = comparison.settings
    assert (fast.name, fast.title, fast.paper, fast.computed_steps) == ("fast", "Fast", "AdaCache-fast", 5.0)
    assert fast.config.cache == AdaCacheConfig({0.1: 3, 1.0: 1}) and fast.config.seed == 5
    assert (large.name, large.title, large.paper, large.computed_steps) == ("large", "large", None, None)
    assert large.config.cache == StaticConfig(interval=3)
    assert (large.config.image_size, fast.config.image_size) == ((128, 64), (64, 64))


def test_defaults_and_order(write):
    settings = "settings = dict(b=dict(cache=dict(type='Static')), a=dict(cache=dict(type='Static')))\n"
    comparison = load_comparison(write("run = 'run.py'\n" + settings))
    assert [setting.name for setting in comparison.settings] == ["b", "a"]
    assert comparison.run.prompts == ("a cat", "a dog") and comparison.prompts == Prompts()
    assert (comparison.num_seeds, comparison.paper) == (1, None)


def test_prompts_of_a_file(write, tmp_path):
    (tmp_path / "birds.txt").write_text("a wren\na kite\n")
    comparison = load_comparison(
        write(f"run = 'run.py'\nprompts = dict(path={str(tmp_path / 'birds.txt')!r})\n{STATIC}")
    )
    # the run config has its own prompts, which those of the benchmark override
    assert comparison.run.prompts == comparison.settings[0].config.prompts == ("a wren", "a kite")


def test_overrides_of_the_caller_count_most(write):
    path = write(f"run = 'run.py'\noverrides = dict(seed=5)\n{STATIC}")
    comparison = load_comparison(path, {"seed": 9})
    assert comparison.run.seed == comparison.settings[0].config.seed == 9


def test_oracles(write):
    oracle = "settings = dict(best=dict(oracle='budget', computed_steps=4.5))\n"
    (best,) = load_comparison(write(f"run = 'run.py'\n{oracle}")).settings
    assert (best.oracle, best.computed_steps, best.config.cache) == ("budget", 4.5, PlannedConfig(steps=(1,)))


def test_a_comparison_is_told_from_a_run(write, tmp_path):
    assert is_comparison(write(f"run = 'run.py'\n{STATIC}"))
    assert not is_comparison(tmp_path / "run.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run = 'run.py'\n", "the config needs 'settings', which is missing"),
        (STATIC, "the config needs 'run', which is missing"),
        (f"run = 'run.py'\nmetric = ('psnr',)\n{STATIC}", "unknown key 'metric' in the config, did you mean 'metrics'"),
        (f"run = 'gone.py'\n{STATIC}", "config '.*gone.py' does not exist"),
        (f"run = 'run.py'\nnum_seeds = 0\n{STATIC}", "num_seeds must be at least 1, got 0"),
        (f"run = 'run.py'\nprompts = dict(held=3)\n{STATIC}", "unknown key 'prompts.held' .* did you mean 'heldout'"),
        (f"run = 'run.py'\nprompts = dict(heldout=0)\n{STATIC}", "prompts: heldout must be at least 1, got 0"),
        (f"run = 'run.py'\nprompts = dict(heldout=1, path='p')\n{STATIC}", "give heldout or path, not both"),
        (f"run = 'run.py'\noverrides = {{'cache.type': 'Static'}}\n{STATIC}", "policies belong in settings"),
        (
            f"run = 'run.py'\noverrides = dict(sede=1)\n{STATIC}",
            "unknown key 'sede' in the config, did you mean 'seed'",
        ),
        ("run = 'run.py'\nsettings = dict()\n", "settings must name at least one setting"),
        ("run = 'run.py'\nsettings = dict(a=dict(cache=3))\n", "settings.a.cache must be a dict"),
        ("run = 'run.py'\nsettings = dict(a=dict())\n", "settings.a: a setting needs a cache"),
        ("run = 'run.py'\nsettings = dict(a=dict(oracle='video'))\n", "oracle 'video' plans .* needs computed_steps"),
        ("run = 'run.py'\nsettings = dict(a=dict(oracle='vidio'))\n", "settings.a.oracle .*static.*video.*budget"),
        (f"run = 'run.py'\n{STATIC.replace('every2', 'baseline')}", "'baseline' cannot name a setting"),
        ("run = 'run.py'\nsettings = {'a b': dict(cache=dict(type='Static'))}\n", "'a b' cannot name a setting"),
        (f"run = 'run.py'\n{STATIC.replace('cache=', 'cahce=')}", "unknown key 'settings.every2.cahce'.*'cache'"),
        (f"run = 'run.py'\n{STATIC.replace('Static', 'Statik')}", "settings.every2: cache.type is 'Statik', did you"),
        (f"run = 'run.py'\n{STATIC.replace('=2', '=0')}", "settings.every2: cache: interval must be a whole number"),
        (
            "run = 'run.py'\nsettings = dict(a=dict(cache=dict(type='Static'), computed_steps=11))\n",
            r"settings.a.computed_steps must lie in 1\.\.10, the steps of the run, got 11",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # mmengine leaves a file open
def test_mistakes_get_one_line(write, text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_comparison(write(text))
    assert "\n" not in str(error.value)
    del error
    gc.collect()


def test_the_config_of_a_run_is_no_benchmark():
    with pytest.raises(
        ValueError, match=r"sample.py' describes a run, not a benchmark.*opensora-adacache sample makes"
    ):
        load_comparison("scenes/sample")


@pytest.mark.parametrize(
    ("calibrated", "message"),
    [
        ("file='gone.json', speedups=(2.2,)", "calibrated file 'gone.json' does not exist; name a path, or one of"),
        (
            "file='scenes_30.json', speedups=(2.2, 9)",
            r"'scenes_30.json' has no setting POLICY-9x; it has .*lemica-2.2x",
        ),
    ],
)
def test_calibrated_settings_that_are_not_there(write, calibrated, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_comparison(write(f"run = 'run.py'\ncalibrated = dict({calibrated})\n{STATIC}"))


def test_a_run_with_a_cache_is_refused(write, tmp_path):
    run = tmp_path / "run.py"
    run.write_text(run.read_text() + "cache = dict(type='Static')\n")
    with pytest.raises(ValueError, match="run 'run.py' has a cache section"):
        load_comparison(write(f"run = 'run.py'\n{STATIC}"))
