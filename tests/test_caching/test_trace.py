"""Traces as data."""

from __future__ import annotations

import json

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
    StepRecord(3, False, None, None, None, 3, 0, 1.0),
]


def test_round_trip_through_json():
    assert trace_from_json(json.loads(json.dumps(trace_to_json(TRACE)))) == TRACE


def test_summary():
    assert computed_steps(TRACE) == [1, 2]
    assert summarize(TRACE) == "computed 2 of 3 steps [##.] in 0.50 s"


def test_a_record_of_another_kind_is_an_error():
    with pytest.raises(ValueError, match="not a trace: .*unexpected keyword argument 'speed'"):
        trace_from_json([{"step": 1, "speed": 2}])
