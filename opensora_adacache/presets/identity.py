"""What a model is recognised by: its name and a digest of its structure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from os import PathLike
from pathlib import PurePath
from typing import Any

from opensora_adacache.models.structure import STDiT3Config

_HUB_SNAPSHOT = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]")


@dataclass(frozen=True)
class ModelIdentity:
    """A model, as settings are found for it.

    Attributes:
        name: last part of its folder or hub name; None where it is unknown, as for a model made in memory.
        digest: digest of its structure; None where it is unknown.
        shown: how errors name it.
        command: command that calibrates it, without target and steps.
    """

    name: str | None
    digest: str | None
    shown: str
    command: str

    def fits(self, model: str, digest: str | None) -> bool:
        """Return whether settings of a model with this folder or hub name, and this digest, are for this model.

        What either side does not know is not compared. The digest must be known on one side.
        """
        if self.digest is not None or self.name is None:
            return self.digest is not None and self.digest == digest and self.name in (None, short_name(model))
        return digest is not None and self.name == short_name(model)


def identity_of_stdit3(structure: Any) -> ModelIdentity:
    """Return the identity of an STDiT3, which has no name: by its `STDiT3Config`, or upstream's."""
    values = {field.name: getattr(structure, field.name) for field in fields(STDiT3Config)}
    values["patch_size"] = list(values["patch_size"])
    shown = f"an STDiT3 of depth {structure.depth} and width {structure.hidden_size}"
    command = "opensora-adacache calibrate CONFIG --policy {policy}"
    return ModelIdentity(None, digest_of("STDiT3", values), shown, command)


def identity_of_pipeline(
    name: str | PathLike, transformer: str | None, structure: Mapping[str, Any] | None
) -> ModelIdentity:
    """Return the identity of the transformer of a diffusers pipeline.

    Args:
        name: folder or hub name of the pipeline; "" for one that was made in memory.
        transformer: class of its transformer; None if it is not loaded yet.
        structure: config of its transformer; None if it is not loaded yet.
    """
    name = str(name)
    known = transformer is not None and structure is not None
    digest = digest_of(transformer, structure) if known else None  # type: ignore[arg-type]
    shown = " of ".join(part for part in (transformer, f"'{name}'" if name else None) if part)
    command = (
        f"opensora-adacache calibrate-pipeline {name or 'MODEL'} --policy {{policy}} --num-sampling-steps {{steps}}"
    )
    return ModelIdentity(short_name(name), digest, shown, command)


def digest_of(kind: str, structure: Mapping[str, Any]) -> str:
    """Return a digest of a model's class and config. Keys that begin with "_" are left out, as diffusers' own.

    >>> digest_of("Wan", {"num_layers": 2, "_name_or_path": "a"}) == digest_of("Wan", {"num_layers": 2})
    True
    """
    kept = {key: value for key, value in structure.items() if not key.startswith("_")}
    return sha256(json.dumps([kind, kept], sort_keys=True, default=str).encode()).hexdigest()[:16]


def short_name(model: str | None) -> str | None:
    """Return the last part of a folder or hub name, also for a folder of the hub's cache; None for none.

    >>> short_name("THUDM/CogVideoX-2b"), short_name("/cache/models--THUDM--CogVideoX-2b/snapshots/0a1/transformer")
    ('CogVideoX-2b', 'CogVideoX-2b')
    """
    if not model:
        return None
    snapshot = _HUB_SNAPSHOT.search(model)
    if snapshot:
        return snapshot[1].rpartition("--")[2]
    path = PurePath(model)
    return path.parent.name if path.name in ("transformer", "transformer_2") else path.name
