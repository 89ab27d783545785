"""Traces as data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opensora_adacache.caching.trace import (
    StepRecord,
    computed_steps,
    summarize,
    trace_from_json,
    trace_to_json,
)

TRACE = [
    StepRecord(1, True, None, None, None, 1, 2, 250.0),
    StepRecord(2, True, 0.125, 1.0, 0.0, 3, 2, 250.0),
    StepRecord(3, False, None, None, None, 3, 0, 1.0, rebuilt=True),
]


def test_round_trip_through_json():
    assert trace_from_json(json.loads(json.dumps(trace_to_json(TRACE)))) == TRACE


def test_fractions_of_the_stack():
    part = replace(TRACE[1], share=0.25)
    assert [record.fraction for record in (*TRACE, part)] == [1, 1, 0, 0.25]


def test_summary():
    assert computed_steps(TRACE) == [1, 2]
    assert summarize(TRACE) == "computed 2 of 3 steps [##.] in 0.50 s"


def test_a_record_of_another_kind_is_an_error():
    with pytest.raises(ValueError, match="not a trace: entry 1: got an unexpected keyword argument 'speed'"):
        trace_from_json([{"step": 1, "speed": 2}])


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        (0, {"step": "1"}, "entry 1: step must be a whole number of at least 1, got '1'"),
        (1, {"step": 3}, "entry 2 is of step 3; steps count from 1 without gaps"),
        (0, {"computed": 1}, "entry 1: computed must be true or false, got 1"),
        (2, {"rebuilt": None}, "entry 3: rebuilt must be true or false, got None"),
        (0, {"computed": False}, "step 1 is reused"),
        (1, {"distance": "0.1"}, "entry 2: distance must be a finite number or null, got '0.1'"),
        (1, {"distance": float("nan")}, "entry 2: distance must be a finite number or null, got nan"),
        (1, {"rate": 0}, "entry 2: rate must be a whole number of at least 1, got 0"),
        (2, {"rows_computed": -1}, "entry 3: rows_computed must be a whole number from 0, got -1"),
        (2, {"milliseconds": None}, "entry 3: milliseconds must be a finite number, got None"),
        (2, {"motion": 10**400}, "entry 3: motion must be a finite number or null"),
    ],
)
def test_a_wrong_value_names_its_record(place, changes, message):
    records = trace_to_json(TRACE)
    records[place] |= changes
    with pytest.raises(ValueError, match=message):
        trace_from_json(records)


@pytest.mark.parametrize("content", [None, 7, "text", {"step": 1}, [1], [None], [[]]])
def test_what_is_no_list_of_records(content):
    with pytest.raises(ValueError, match="not a trace: (expected a list of steps|entry 1: expected an object)"):
        trace_from_json(content)
