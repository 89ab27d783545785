"""Check that the processes of a run are alike before they work together."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import opensora_adacache
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown
from opensora_adacache.generation.description import plain
from opensora_adacache.generation.records import installed_versions
from opensora_adacache.parallel import ProcessGroup


def check_alike(config: RunConfig, group: ProcessGroup) -> None:
    """Compare config, source code and versions of all processes of a run, in one exchange.

    Processes that differ could make other videos than their records say, or wait for each other without end.

    Raises:
        ConfigError: a process differs from the first one. Every process raises it.
    """
    if group.world_size == 1:
        return
    first, *others = group.gather(describe_process(config))
    for rank, other in enumerate(others, start=1):
        for name in [*first, *other]:
            if first.get(name) != other.get(name):
                raise ConfigError(
                    f"process {rank} of this run has {name} {shown(other.get(name))}, but process 0 has "
                    f"{shown(first.get(name))}; start all of them with the same command and the same installation"
                )


def describe_process(config: RunConfig) -> dict[str, Any]:
    """Return what must be the same in all processes of a run: name -> value."""
    values = {name: value for name, value in _flatten(plain(config)).items() if name != "path"}
    return {**values, **installed_versions(), "libc": " ".join(platform.libc_ver()), "source code": _digest_source()}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat.update(_flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def _digest_source() -> str:
    """Return a digest of the package's source files."""
    digest = sha256()
    folder = Path(opensora_adacache.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
