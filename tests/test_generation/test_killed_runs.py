"""After a run is killed at any moment, videos and records agree and the next run loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", ["new", pytest.param("overwrite", marks=pytest.mark.slow)])
def test_killed_at_every_write_and_rename(tmp_path, tiny_config, mode):
    config = tmp_path / "tiny.py"
    config.write_text(tiny_config)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kill_runs.py")), str(config), str(tmp_path), mode],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    whole, *deaths = [json.loads(line) for line in done.stdout.splitlines()]
    old, wanted = whole["old"], whole["wanted"]
    assert wanted["run"] == ["complete", 2] and len(deaths) > 20
    for death in deaths:
        then, end = death["then"], death["at the end"]
        # no temporary file and no lock is left, and videos and records agree
        assert then["files"] == end["files"] == wanted["files"], death
        assert end["videos"] == wanted["videos"] and end["run"] == ["complete", 2], death
        if mode == "new":
            # the old file stays, and the same command makes the rest
            assert death["resumed"] and then == end and death["kept"] == death["left"], death
        else:
            # each video is completely the old or the new one; without --overwrite, neither is mistaken for the other
            for name, digest in then["videos"].items():
                assert digest in (old["videos"][name], wanted["videos"][name]), death
            assert death["resumed"] == (then["videos"] == wanted["videos"]), death
    if mode == "overwrite":
        stages = [
            sum(digest in old["videos"].values() for digest in death["then"]["videos"].values()) for death in deaths
        ]
        assert set(stages) == {0, 1, 2}
