"""Read a comparison: one baseline run, and settings of caching policies to compare with it.

A comparison config is a Python file with these keys: ``run`` (path, relative to the file, of a run config without a
cache), ``settings`` (name → ``dict(cache=dict(type=…, …))`` and optionally ``title``, ``overrides``, ``paper``,
``computed_steps``; or an ``oracle``), and optionally ``overrides``, ``prompts``, ``num_seeds``, ``metrics``, ``paper``
and ``title``. Names that begin with an underscore are the file's own variables. The baseline is implied and is named
"baseline". No model is loaded here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from opensora_adacache.config.file import read_file
from opensora_adacache.config.load import load_config, locate
from opensora_adacache.config.section import build
from opensora_adacache.config.settings import RunConfig

BASELINE = "baseline"
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class Prompts:
    """Where the prompts of a comparison come from: by default the run config.

    Attributes:
        heldout: number of held-out prompts of the bundled data set, which its model never saw.
        seed: for drawing them.
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
    """One policy with its constants.

    Attributes:
        name: short, usable as a file name.
        config: the run, with the cache; the policy is its type.
        title: as tables show it.
        paper: the row's method name in the paper's table, or None.
        computed_steps: planned computed steps of a policy that decides as it goes, from a source the config quotes; of
            an oracle, the steps it spends per video.
        oracle: a schedule that uses knowledge no policy has: "static" is the best fixed schedule (given in its cache
            section), "video" the best schedule of each video, "budget" the same with the best split of the steps over
            the videos.
    """

    name: str
    config: RunConfig
    title: str
    paper: str | None = None
    computed_steps: float | None = None
    oracle: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A baseline and the settings to compare with it.

    Attributes:
        path: the comparison config.
        run: the baseline.
        prompts: where the prompts come from.
        num_seeds: videos per prompt, each with its own seed.
        metrics: names of the metrics.
        paper: which of the paper's tables stands beside ours, or None.
        settings: in the config's order, the baseline not among them.
        title: of tables and page.
    """

    path: Path
    run: RunConfig
    prompts: Prompts
    num_seeds: int
    metrics: tuple[str, ...]
    paper: str | None
    settings: tuple[Setting, ...]
    title: str


@dataclass(frozen=True)
class _ComparisonKeys:
    """The keys of a comparison config."""

    run: str
    settings: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    prompts: Prompts = Prompts()
    num_seeds: int = 1
    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips")
    paper: str | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        if not self.settings:
            raise ValueError("settings must name at least one setting, such as settings=dict(fast=dict(cache=…))")
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds must be at least 1, got {self.num_seeds}")


@dataclass(frozen=True)
class _SettingKeys:
    """The keys of one entry of ``settings``."""

    cache: Mapping[str, Any] | None = None
    title: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    computed_steps: float | None = None
    oracle: Literal["static", "video", "budget"] | None = None

    def __post_init__(self) -> None:
        plans = self.oracle in ("video", "budget")
        if plans and (self.cache is not None or self.computed_steps is None):
            raise ValueError(f"oracle '{self.oracle}' plans from the videos: it needs computed_steps and no cache")
        if not plans and self.cache is None:
            raise ValueError("a setting needs a cache, such as cache=dict(type='AdaCache', codebook={…})")

    @property
    def cache_section(self) -> dict[str, Any]:
        """The cache section of the run; an oracle's plan replaces the placeholder later."""
        return {"type": "Planned", "steps": (1,)} if self.cache is None else dict(self.cache)


def is_comparison(path: str | Path) -> bool:
    """Tell whether a config file is a comparison rather than a run, by its keys."""
    values = read_file(Path(path))
    return "settings" in values or "run" in values


def load_comparison(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Comparison:
    """Read a comparison config.

    Args:
        path: the file.
        overrides: dotted keys of the run config, which override the file.

    Raises:
        FileNotFoundError: a config, a prompt file or a local checkpoint does not exist.
        ValueError: anything else that is wrong, in one line.
    """
    path = Path(path)
    keys = build(_ComparisonKeys, read_file(path), "")
    common = dict(keys.overrides)
    _refuse_cache(common, "overrides")
    if keys.prompts.path is not None:
        common["prompt_path"] = str(locate(keys.prompts.path))
    run_path = path.parent / keys.run
    last = dict(overrides or {})
    run = load_config(run_path, {**common, **last})
    if run.cache is not None:
        raise ValueError(f"run '{keys.run}' has a cache section; a comparison needs a run config without one")
    settings = []
    for name, section in keys.settings.items():
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
        _check_computed_steps(values.computed_steps, config, where)
        title = values.title or name
        settings.append(Setting(name, config, title, values.paper, values.computed_steps, values.oracle))
    title = keys.title or path.stem
    return Comparison(path, run, keys.prompts, keys.num_seeds, keys.metrics, keys.paper, tuple(settings), title)


def _refuse_cache(overrides: Mapping[str, Any], where: str) -> None:
    for key in overrides:
        if str(key).split(".")[0] == "cache":
            raise ValueError(f"'{key}' in {where}: policies belong in settings, as settings=dict(NAME=dict(cache=…))")


def _check_computed_steps(steps: float | None, config: RunConfig, where: str) -> None:
    num_steps = config.scheduler.num_sampling_steps
    if steps is not None and not 1 <= steps <= num_steps:
        raise ValueError(f"{where}.computed_steps must lie in 1..{num_steps}, the steps of the run, got {steps:g}")
