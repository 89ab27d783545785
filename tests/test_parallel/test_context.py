"""Caches on models that diffusers splits between devices (context parallelism).

In diffusers 0.42.1, CogVideoX has no plan for context parallelism, and its attention ignores it. ring_degree needs an
attention that returns the sums of its exponentials, which diffusers has for CUDA only.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
start = runpy.run_path(str(HERE / "start.py"))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("name", ["wan-2.1", "wan-2.2", "ltx"])
def test_two_devices_make_the_video_of_one(name):
    """Wan 2.1 has five frames on two devices, so that one is split in the middle."""
    printed = start["results"](HERE / "context_runs.py", [name, "ulysses_degree=2"], 2)
    first, second = ({line["case"]: line for line in lines} for lines in printed)
    assert first["uncached"]["collectives"] > 0 and first["uncached"]["difference"] < 1e-4
    assert "reads all frames of a video at once" in first.pop("seacache")["refused"]
    for case, result in first.items():
        if case == "uncached":
            continue
        assert result["together"] == result["alone"] == second[case]["together"], case
        assert result["difference"] < 1e-4, case
        alone, together = result["motions"]
        assert together == pytest.approx(alone, rel=1e-4) and bool(alone) != (
            case in ("forecast", "fbcache", "teacache")
        )
        if case == "every step":
            assert result["same as uncached"]
        else:
            assert any(len(schedule) < 10 for schedule in result["alone"]), case
