"""Sections as dicts: merging, and reading and setting dotted keys."""

from __future__ import annotations

import pytest

from opensora_adacache.config.merging import get_value, merge, set_value


def test_merging_changes_neither_side():
    base = {"a": {"b": 1, "c": 2}}
    changes = {"a": {"b": 3}, "d": 4}
    assert merge(base, changes) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert base == {"a": {"b": 1, "c": 2}} and changes == {"a": {"b": 3}, "d": 4}


def test_a_value_takes_the_place_of_a_section_and_back():
    assert merge({"cache": {"codebook": {0.1: 2}}}, {"cache": None}) == {"cache": None}
    assert merge({"cache": None}, {"cache": {"codebook": {0.1: 2}}}) == {"cache": {"codebook": {0.1: 2}}}


def test_dotted_keys():
    values = {"a": {"b": 1}}
    set_value(values, "a.c", 2)
    set_value(values, "d.e.f", 3)
    assert values == {"a": {"b": 1, "c": 2}, "d": {"e": {"f": 3}}}
    assert get_value(values, "d.e.f") == 3 and get_value(values, "a.b.c") is None
    with pytest.raises(ValueError, match="'a.b' in 'a.b.c' is not a section of the config, it is 1"):
        set_value(values, "a.b.c", 4)


def test_setting_a_key_leaves_other_names_of_the_section_alone():
    shared = {"b": 1}
    values = {"x": shared, "y": shared}
    set_value(values, "x.b", 2)
    assert values == {"x": {"b": 2}, "y": {"b": 1}}
