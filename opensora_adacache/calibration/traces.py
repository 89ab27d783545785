"""Read codebooks and traces from files, and show schedules."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.codebook import Codebook
from opensora_adacache.caching.trace import StepRecord, trace_from_json
from opensora_adacache.config import load_config
from opensora_adacache.config.calibrated import read_setting
from opensora_adacache.config.file import BASE
from opensora_adacache.config.merging import get_value
from opensora_adacache.config.paths import find_config
from opensora_adacache.errors.shown import one_line
from opensora_adacache.presets.json_object import RepeatedKeyError, unique_keys


def read_codebook(source: str) -> Codebook:
    """Return the codebook of a config, of a calibrated setting ``FILE.json#NAME``, or of a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds no codebook.
    """
    path = find_config(source)
    if path.suffix in (".py", ".yaml", ".yml"):
        return _codebook_of_config(path)
    if "#" in source and not path.is_file():
        content: Any = read_setting(source).section
    else:
        content = _read_json(path)
    if isinstance(content, dict) and "settings" in content:
        content = read_setting(source).section  # of the only one, or an error that lists them
    elif isinstance(content, dict) and any(key in content for key in (BASE, "cache", "model", "pipeline")):
        return _codebook_of_config(path)
    if isinstance(content, dict):
        content = content.get("codebook", content)
    try:
        return AdaCacheConfig(unique_keys((float(threshold), rate) for threshold, rate in content.items())).codebook
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'\'{source}\' holds no codebook such as {{"0.08": 6, "1.0": 1}}: {error}') from None


def read_traces(path: Path) -> list[list[StepRecord]]:
    """Return the traces of a video's record, or the bare trace in the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds no trace, or that of another policy than AdaCache.
    """
    content = _read_json(path)
    traces = content.get("traces") if isinstance(content, dict) else [content]
    if not isinstance(traces, list) or not traces or not all(isinstance(t, list) and t for t in traces):
        raise ValueError(f"'{path}' holds no trace; name the .json beside a video that was made with a cache")
    policy = get_value(content, "settings.cache.type") if isinstance(content, dict) else None
    if policy not in (None, "AdaCache"):
        raise ValueError(
            f"'{path}' is of a video made with {one_line(policy)}; name one made with AdaCache, which has a codebook"
        )
    try:
        return [trace_from_json(trace) for trace in traces]
    except ValueError as error:
        raise ValueError(f"'{path}' is {error}") from None


def schedule_line(title: str, computed: Collection[int], num_steps: int) -> str:
    """Return a schedule as a line of text.

    >>> schedule_line("trace", [1, 2, 4], 4)
    'trace      3 of 4 [##.#]'
    """
    strip = "".join("#" if step in computed else "." for step in range(1, num_steps + 1))
    return f"{title:9}{len(computed):3d} of {num_steps} [{strip}]"


def planned_section(computed: Sequence[int]) -> str:
    """Return the cache section that computes exactly these steps.

    >>> planned_section([1, 2, 4])
    'cache = dict(type="Planned", steps=(1, 2, 4))'
    """
    return f'cache = dict(type="Planned", steps={tuple(computed)})'


def _codebook_of_config(path: Path) -> Codebook:
    codebook = getattr(load_config(path, {"prompt": ["any"]}).cache, "codebook", None)
    if codebook is None:
        raise ValueError(f"'{path}' has no AdaCache section; name a config that has one, or a JSON codebook")
    return codebook


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise FileNotFoundError(f"'{path}' does not exist; correct the path") from None
    except RepeatedKeyError as error:
        raise ValueError(f"'{path}': {error}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"'{path}' is not valid JSON") from None
