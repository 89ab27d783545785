"""The command that finds a codebook, on small checkpoints."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.replay import record, replay
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.hosts.recorder import record_probe

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def calibrate():
    return runpy.run_path(str(ROOT / "scripts" / "calibrate.py"))["main"]


def test_a_wanted_speedup(calibrate, tiny_config, tmp_path, capsys):
    config, out = tmp_path / "config.py", tmp_path / "codebook.json"
    cache = 'cache = dict(type="AdaCache", codebook={0.02: 4, 0.05: 3, 0.1: 2, 1.0: 1}, cache_loc=(2,))\n'
    config.write_text(tiny_config + f'prompt = ["a red circle", "a blue square"]\nsave_dir = "{tmp_path}"\n' + cache)
    assert calibrate([str(config), "--speedup", "1.6", "--out", str(out)]) == 0
    assert "codebook = {" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert list(found["codebook"].values()) == [4, 3, 2, 1]
    assert found["mean_computed_steps"] == pytest.approx(8 / 1.6, abs=1)
    assert len(found["schedules"]) == 2 and all({1, 2, 7, 8} <= set(steps) for steps in found["schedules"])


def test_a_config_without_a_cache(calibrate, tiny_config, tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(tiny_config + f'prompt = ["a"]\nsave_dir = "{tmp_path}"\n')
    assert calibrate([str(config), "--speedup", "2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and "no AdaCache section to calibrate" in error and error.count("\n") == 1


@torch.no_grad()
def test_replay_of_a_recording_equals_the_run_until_paths_part(golden_model):
    """Up to its first reused step a cached run is the uncached one, so the replayed decision there is exact."""
    config = AdaCacheConfig({0.02: 6, 0.05: 5, 0.1: 4, 0.2: 3, 1.0: 1}, cache_loc=(2,))
    z = torch.randn(2, 4, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {name: torch.full((2,), 64.0) for name in ("fps", "height", "width")}

    def walk():
        for step in range(10):
            golden_model(z * (1 - step / 20), torch.full((2,), 1000.0 - 100 * step), y, **size)

    with record_probe(golden_model, config) as residuals:
        walk()
    with apply_cache(golden_model, config, 10) as session:
        walk()
    # the inputs do not depend on the outputs here, so the whole schedule must agree
    assert replay(config, record(residuals, 5, (1,), max_rate=6)) == computed_steps(session.trace)
    assert len(residuals) == 10
