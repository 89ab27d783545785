"""Dataclasses from dicts: unknown keys, types, close matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from opensora_adacache.config.section import build, convert
from opensora_adacache.errors.closest import closest


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int] = (1, 2)
    rates: Mapping[float, int] | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    weight: float = 1.0
    kind: Literal["small", "large"] = "small"
    level: Literal[0, 1, 2] = 1
    inner: Inner | None = None

    def __post_init__(self):
        if self.weight < 0:
            raise ValueError("weight must not be negative")


def test_builds_nested_sections_and_converts():
    built = build(Outer, {"name": "a", "weight": 2, "inner": {"size": [3, 4], "rates": {1: 2}}}, "outer")
    assert built == Outer("a", 2.0, "small", 1, Inner((3, 4), {1.0: 2}))
    assert isinstance(built.weight, float)
    assert build(Outer, {"name": "a", "inner": None}, "outer").inner is None
    assert build(Outer, {"name": "a", "level": 0}, "outer").level == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "a"}, r"unknown key 'outer.nam' in the config, did you mean 'name'\?"),
        ({}, "needs 'outer.name', which is missing"),
        ({"name": 3}, "outer.name must be a string, got 3"),
        ({"name": "a", "weight": True}, "outer.weight must be a finite number, got True"),
        ({"name": "a", "weight": -1}, "outer: weight must not be negative"),
        ({"name": "a", "kind": "larg"}, "outer.kind is 'larg', did you mean 'large'"),
        ({"name": "a", "level": 7}, "outer.level is 7; expected one of 0, 1, 2"),
        ({"name": "a", "level": True}, "outer.level is True; expected one of 0, 1, 2"),
        ({"name": "a", "inner": {"size": [1]}}, "outer.inner.size must be a list of 2"),
        ({"name": "a", "inner": {"size": [1, "b"]}}, r"outer.inner.size\[1\] must be a whole number, got 'b'"),
        ({"name": "a", "inner": {"rates": {"x": 1}}}, "a key of outer.inner.rates must be a finite number, got 'x'"),
        ({"name": "a", "inner": 3}, "outer.inner must be a section"),
        (3, "outer must be a section"),
    ],
)
def test_errors_name_key_and_expectation(values, message):
    with pytest.raises(ValueError, match=message) as error:
        build(Outer, values, "outer")
    assert "\n" not in str(error.value)


def test_unions_take_any_member():
    assert convert("2s", int | str, "n") == "2s"
    with pytest.raises(ValueError, match="n must be a whole number or a string, got 1.5"):
        convert(1.5, int | str, "n")


def test_closest_is_silent_when_nothing_is_close():
    assert closest("zzz", ["seed"]) == ""
