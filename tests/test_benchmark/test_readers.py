"""Fuzz: readers of results and traces raise nothing but errors for users, in one line that names the file."""

from __future__ import annotations

import json
import string
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from opensora_adacache.benchmark.results import append_result, read_results
from opensora_adacache.caching.replay import replay_trace
from opensora_adacache.caching.trace import StepRecord, trace_from_json, trace_to_json
from opensora_adacache.calibration.traces import read_traces

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -1, 0, 1, "1", "../x", "/etc/hostname", "\0", "\ud800"])
    | st.text(string.printable, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FUZZ = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TRACE = [StepRecord(step, True, 0.1 if step > 1 else None, None, None, 1, 2, 1.0) for step in (1, 2, 3)]


def check(read, path):
    """Read a file, or get one line that names it."""
    try:
        return read(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return None


@FUZZ
@given(st.data())
def test_rows(tmp_path, make_row, data):
    path, row = tmp_path / "results.jsonl", asdict(make_row())
    names = data.draw(st.lists(st.sampled_from([*row, "other"]), max_size=3))
    for name in names:
        row[name] = data.draw(VALUES)
    if data.draw(st.booleans()) and names:
        row.pop(names[0])
    path.write_text(json.dumps(row) + "\n")
    rows = check(read_results, path)
    if rows:
        (tmp_path / "copy.jsonl").unlink(missing_ok=True)
        append_result(tmp_path / "copy.jsonl", rows[0])  # what was read can be written, and is the same again
        assert read_results(tmp_path / "copy.jsonl") == rows
        assert (tmp_path / rows[0].video).resolve().is_relative_to(tmp_path.resolve())


@FUZZ
@given(st.binary(max_size=60))
@example(b"\xff\xfe\n")
@example(b"[" * 100_000 + b"\n")
@example(b"1" * 5000 + b"\n")
@example(b"null\n" * 3)
@example(b"NaN\n")
def test_files_of_anything(tmp_path, content):
    path = tmp_path / "results.jsonl"
    path.write_bytes(content + b"\n")
    check(read_results, path)
    check(read_traces, path)


@FUZZ
@given(st.data())
def test_traces(tmp_path, data):
    records = trace_to_json(TRACE)
    for _ in range(data.draw(st.integers(1, 3))):
        records[data.draw(st.integers(0, 2))][data.draw(st.sampled_from([*records[0], "other"]))] = data.draw(VALUES)
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(data.draw(st.sampled_from([records, {"traces": [records]}, records[1:]]))))
    for trace in check(read_traces, path) or []:
        assert trace_from_json(trace_to_json(trace)) == trace
        try:
            assert replay_trace({0.1: 3, 1.0: 1}, trace)[0] == 1
        except ValueError as error:
            assert "no distances" in str(error)


@FUZZ
@given(VALUES.filter(lambda content: content != []))
def test_what_is_no_trace(content):
    for read in (trace_from_json, lambda trace: replay_trace({1.0: 1}, trace)):
        with pytest.raises(ValueError, match="not a trace"):
            read(content)
