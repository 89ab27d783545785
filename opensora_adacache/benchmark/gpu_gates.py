"""Gates for a report of `gpu_report`: parity with the reference vectors, and no slower than a stored report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PARITY = {"float32 vectors, relative error": 1e-5, "bfloat16 vectors, relative error": 0.015}
"""Largest errors against the reference vectors."""
SLOWER = 1.10
"""Largest ratio of a time or peak memory to that of the stored report, which leaves room for noise."""
COMPARED = ("ms", "peak GB")

Report = Mapping[str, Mapping[str, Any] | str]


def failed_gates(report: Report, baseline: Report) -> Iterator[str]:
    """Yield a line for each gate that a report fails.

    Args:
        report: sections by title, as `gpu_report` writes them; a text in place of a section says why it is missing.
        baseline: a stored report. Times and memory are compared only if it comes from the same kind of device.

    >>> stored = {"device": {"device": "X"}, "step": {"ms": 100.0, "peak GB": 5.0}}
    >>> list(failed_gates({"device": {"device": "X"}, "step": {"ms": 120.0, "peak GB": 5.1}}, stored))
    ['step: ms is 120, but 100 is stored (1.20 of it; at most 1.1 passes)']
    """
    for title in baseline:
        found = report.get(title, "missing")
        if isinstance(found, str):
            yield f"{title}: {found}"
    parity = _section(report, "parity")
    for name, most in PARITY.items():
        if name in parity and not parity[name] <= most:
            yield f"parity: {name} is {parity[name]:.2g}; at most {most:g} passes"
    same, runs = parity.get("with the same schedule"), parity.get("recorded runs")
    if same != runs:
        yield f"parity: {same} of {runs} recorded runs have the same schedule; all must"
    if _section(report, "device").get("device") != _section(baseline, "device").get("device"):
        return
    for title in baseline:
        before, now = _section(baseline, title), _section(report, title)
        for name in (name for name in COMPARED if name in before and name in now):
            ratio = now[name] / before[name]
            if not ratio <= SLOWER:
                yield (
                    f"{title}: {name} is {now[name]:g}, but {before[name]:g} is stored ({ratio:.2f} of it; at most "
                    f"{SLOWER:g} passes)"
                )


def _section(report: Report, title: str) -> Mapping[str, Any]:
    """Return a section, or an empty one if it is missing."""
    section = report.get(title, "")
    return {} if isinstance(section, str) else section
