"""Read the config of a benchmark: one baseline run, and the caching policies to compare with it.

The config is a Python file with these keys: ``run`` (the path of a run config without a cache, relative to the file),
``settings`` (name → ``dict(cache=dict(type=…, …))``, optionally with ``title``, ``overrides``, ``paper``,
``computed_steps`` and ``budget``; or an ``oracle``), and optionally ``overrides``, ``prompts``, ``num_seeds``,
``metrics``, ``paper``, ``devices``, ``batch_size``, ``keep_videos``, ``share_steps``, ``calibrated`` and ``title``.
``calibrated`` (a file of calibrated settings and speedups) adds a setting for every policy that the file holds. Names
that begin with an underscore are private variables of the file. The baseline is always included, under the name
"baseline". This module loads no model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from opensora_adacache.benchmark.calibrated_settings import CalibratedSettings
from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.config.file import read_file
from opensora_adacache.config.keys import describes_benchmark
from opensora_adacache.config.load import load_config
from opensora_adacache.config.paths import find_config, locate
from opensora_adacache.config.section import build
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.family import ConfigError

# Oracles that plan each video.
_PLANNING = ("video", "budget")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class Prompts:
    """Where the prompts of a benchmark come from. The default is the run config.

    Attributes:
        heldout: number of held-out prompts of the bundled data set, which the bundled model never saw in training.
        seed: seed that the held-out prompts are drawn with.
        path: file with one prompt per line.
    """

    heldout: int | None = None
    seed: int = 0
    path: str | None = None

    def __post_init__(self) -> None:
        if self.heldout is not None and self.path is not None:
            raise ValueError("give heldout or path, not both")
        if self.heldout is not None and self.heldout < 1:
            raise ValueError(f"heldout must be at least 1, got {self.heldout}")


@dataclass(frozen=True)
class Setting:
    """One policy with its settings.

    Attributes:
        name: short name that is valid as a file name.
        config: run config including the cache, whose type is the policy.
        title: name that tables show.
        paper: name of the method in the paper's table, or None.
        computed_steps: for a policy that decides during the run, the expected number of computed steps, from a source
            that the config quotes. For an oracle, the number of computed steps per video.
        oracle: kind of a schedule that uses knowledge no policy has: "static" is the best fixed schedule (given in the
            cache section), "video" is the best schedule of each video, and "budget" also splits the computed steps
            between the videos in the best way.
        budget: mean number of computed steps to hold the setting to, or None (see `budgets`).
        held_for: for a setting with a scaled threshold, the name of the setting that is held to a budget with it.
        factor: what the thresholds of that setting were multiplied by.
    """

    name: str
    config: RunConfig
    title: str
    paper: str | None = None
    computed_steps: float | None = None
    oracle: str | None = None
    budget: float | None = None
    held_for: str | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """A baseline and the settings to compare with it.

    Attributes:
        path: path of the benchmark config.
        run: run config of the baseline.
        prompts: source of the prompts.
        num_seeds: number of videos per prompt, each with its own seed.
        metrics: names of the metrics.
        paper: name of the paper's table to show beside our figures, or None.
        devices: for plans: number of devices that make a video together -> the paper's table with their latencies.
        settings: settings in the order of the config, without the baseline.
        title: title of the tables and the page.
        batch_size: number of videos of different prompts and seeds that are made at once.
        keep_videos: whether each video is written to a file. Without files, nothing is measured on decoded videos.
        share_steps: whether steps that equal those of the uncached run are taken from it (`shared_steps`). The videos
            are the same, and their latencies mean nothing.
    """

    path: Path
    run: RunConfig
    prompts: Prompts
    num_seeds: int
    metrics: tuple[str, ...]
    paper: str | None
    devices: Mapping[int, str]
    settings: tuple[Setting, ...]
    title: str
    batch_size: int = 1
    keep_videos: bool = True
    share_steps: bool = False


@dataclass(frozen=True)
class _ComparisonKeys:
    """The keys of a benchmark config."""

    run: str
    settings: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    prompts: Prompts = Prompts()
    num_seeds: int = 1
    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips")
    paper: str | None = None
    devices: Mapping[int, str] = field(default_factory=dict)
    title: str | None = None
    batch_size: int = 1
    keep_videos: bool = True
    share_steps: bool = False
    calibrated: CalibratedSettings | None = None

    def __post_init__(self) -> None:
        if any(number < 1 for number in self.devices):
            raise ValueError(f"devices must be numbers of at least 1, got {min(self.devices)}")
        if not self.settings:
            raise ValueError("settings must name at least one setting, such as settings=dict(fast=dict(cache=…))")
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds must be at least 1, got {self.num_seeds}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class _SettingKeys:
    """The keys of one entry of ``settings``."""

    cache: Mapping[str, Any] | None = None
    title: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    computed_steps: float | None = None
    oracle: Literal["static", "video", "budget"] | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        plans = self.oracle in _PLANNING
        if plans and (self.cache is not None or self.computed_steps is None):
            raise ValueError(f"oracle '{self.oracle}' plans from the videos: it needs computed_steps and no cache")
        if not plans and self.cache is None:
            raise ValueError("a setting needs a cache, such as cache=dict(type='AdaCache', codebook={…})")

    @property
    def cache_section(self) -> dict[str, Any]:
        """The cache section of the run. For an oracle it is a placeholder that its plan replaces later."""
        return {"type": "Planned", "steps": (1,)} if self.cache is None else dict(self.cache)


def is_comparison(path: str | Path) -> bool:
    """Return whether a config file describes a benchmark rather than a run, judged by its keys."""
    return describes_benchmark(read_file(find_config(path)))


def load_comparison(
    path: str | Path, overrides: Mapping[str, Any] | None = None, prompt_seed: int | None = None
) -> Comparison:
    """Read a benchmark config.

    Args:
        path: the file.
        overrides: dotted keys of the run config. They override the file.
        prompt_seed: seed to draw the held-out prompts with instead of the file's.

    Raises:
        FileNotFoundError: a config, a prompt file or a local checkpoint does not exist.
        ValueError: the config is invalid in any other way. The message is one line.
    """
    path = find_config(path)
    written = read_file(path)
    if written and not describes_benchmark(written):
        raise ConfigError(
            f"config '{path}' describes a run, not a benchmark, which has run='{path.name}' and settings=dict(…): "
            "opensora-adacache sample makes it"
        )
    keys = build(_ComparisonKeys, written, "")
    prompts = keys.prompts
    if prompt_seed is not None:
        if prompts.heldout is None:
            raise ValueError(
                f"'{path}' draws no held-out prompts, so it has no prompt seed: leave --prompt-seed out, or set "
                "prompts=dict(heldout=N) in the config"
            )
        prompts = replace(prompts, seed=prompt_seed)
    common = dict(keys.overrides)
    _refuse_cache(common, "overrides")
    if keys.prompts.path is not None:
        common["prompt_path"] = str(locate(keys.prompts.path))
    run_path = path.parent / keys.run
    last = dict(overrides or {})
    run = load_config(run_path, {**common, **last})
    if keys.share_steps and not isinstance(run, OpenSoraConfig):
        raise ValueError(
            "share_steps needs Open-Sora's models, and this run is one of a diffusers pipeline: leave it out"
        )
    if run.cache is not None:
        raise ValueError(f"run '{keys.run}' has a cache section; a comparison needs a run config without one")
    settings = []
    added = {} if keys.calibrated is None else keys.calibrated.sections()
    for name, section in {**added, **keys.settings}.items():
        where = f"settings.{name}"
        if not _NAME.fullmatch(str(name)) or name == BASELINE:
            raise ValueError(
                f"'{name}' cannot name a setting: expected letters, digits and . + - _, other than '{BASELINE}', "
                "which is implied"
            )
        values = build(_SettingKeys, section, where)
        _refuse_cache(values.overrides, f"{where}.overrides")
        changes = {**common, **values.overrides, "cache": values.cache_section, **last}
        try:
            config = load_config(run_path, changes)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        _check_steps(values.computed_steps, config, f"{where}.computed_steps")
        _check_steps(values.budget, config, f"{where}.budget")
        if keys.batch_size > 1:
            _check_batch(values.oracle, config, where)
        if values.oracle in _PLANNING and not isinstance(config, OpenSoraConfig):
            raise ValueError(
                f"{where}: oracle '{values.oracle}' plans each video, which needs Open-Sora's models; with a diffusers "
                "pipeline use oracle='static'"
            )
        title = values.title or name
        steps, oracle = values.computed_steps, values.oracle
        settings.append(Setting(name, config, title, values.paper, steps, oracle, values.budget))
    title = keys.title or path.stem
    return Comparison(
        path,
        run,
        prompts,
        keys.num_seeds,
        keys.metrics,
        keys.paper,
        keys.devices,
        tuple(settings),
        title,
        keys.batch_size,
        keys.keep_videos,
        keys.share_steps,
    )


def _refuse_cache(overrides: Mapping[str, Any], where: str) -> None:
    for key in overrides:
        if str(key).split(".")[0] == "cache":
            raise ValueError(f"'{key}' in {where}: policies belong in settings, as settings=dict(NAME=dict(cache=…))")


def _check_steps(steps: float | None, config: RunConfig, where: str) -> None:
    num_steps = config.num_sampling_steps
    if steps is not None and not 1 <= steps <= num_steps:
        raise ValueError(f"{where} must lie in 1..{num_steps}, the steps of the run, got {steps:g}")


def _check_batch(oracle: str | None, config: RunConfig, where: str) -> None:
    """Raise ValueError if the videos of a batch would not be those that are made one at a time."""
    if oracle in _PLANNING:
        raise ValueError(f"{where}: oracle '{oracle}' plans each video: leave batch_size out")
    cache = config.cache
    if cache is None or cache.decision == "sample" or cache.fixed_steps(config.num_sampling_steps) is not None:
        return
    raise ValueError(
        f"{where}: with batch_size each video must decide for itself: set decision='sample' in its cache section"
    )
