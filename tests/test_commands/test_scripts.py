"""Every script: help, and arguments that it cannot read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


def run(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_arguments_that_cannot_be_read_are_one_line(script, tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    given = {"--help": 0, "": 2, str(tmp_path / "gone"): 2, str(tmp_path): 2, str(tmp_path / "binary"): 2}
    for argument, status in given.items():
        shown, errors = run(script, argument).communicate(timeout=300)
        assert "Traceback" not in errors and not (status == 0 and errors), errors
        lines = [line for line in errors.splitlines() if not line.startswith(("usage:", " "))]
        result = (os.path.basename(argument), len(lines))
        assert result == (os.path.basename(argument), 1 if status else 0), errors
        assert status or shown
