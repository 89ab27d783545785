"""Steps that are taken from the uncached run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.benchmark.results import read_results
from opensora_adacache.benchmark.runner import ComparisonRun
from opensora_adacache.benchmark.shared_steps import SharedSteps
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.planned import PlannedConfig

STEPS = 5
SETTINGS = [
    PlannedConfig(steps=(1, 2, 3, 5)),
    AdaCacheConfig({1e9: 2, 2e9: 1}, decision="sample"),
    PABConfig(spatial=2, temporal=2, cross=2),
]


@torch.no_grad()
def run(model, cache):
    """Return the outputs of a run whose latents follow from them."""
    x = torch.randn(4, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(4, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {"fps": torch.full((4,), 8.0), "height": torch.full((4,), 64.0), "width": torch.full((4,), 64.0)}
    session, outputs = apply_cache(model, cache, STEPS) if cache else None, []
    for step in range(STEPS):
        out = model(x, torch.full((4,), 1000.0 - 150 * step), y, **size)
        x = x - 0.1 * out[:, :4]
        outputs.append(out)
    if session is not None:
        session.detach()
    return outputs


def test_the_same_outputs_from_fewer_computations(golden_model):
    plain = [run(golden_model, cache) for cache in (None, *SETTINGS)]
    shared, calls = SharedSteps(), []
    for block in golden_model.blocks():
        block.mlp.register_forward_hook(lambda *_: calls.append(1))
    with shared.attached(golden_model):
        with shared.recording():
            uncached = run(golden_model, None)
        numbers = [len(calls)]
        found = [uncached]
        for cache in SETTINGS:
            found.append(run(golden_model, cache))
            numbers.append(len(calls) - sum(numbers))
        repeated = len(calls)
        assert all(map(torch.equal, run(golden_model, None), uncached)) and len(calls) == repeated  # all are shared
    for one, other in zip(plain, found, strict=True):
        assert all(map(torch.equal, one, other))
    blocks = len(golden_model.blocks())
    assert numbers[0] == blocks * STEPS
    assert numbers[1] == blocks  # steps 1 to 3 are shared, step 5 computes
    assert not any("attention_residual" in vars(block) for block in golden_model.blocks())


@pytest.mark.slow
def test_the_rows_of_a_benchmark_are_the_same(write_comparison, tmp_path):
    text = "settings = dict(every2=dict(cache=dict(type='Planned', steps=(1, 2, 3, 6, 8))))\nbatch_size = 2\n"
    rows = []
    for name, more in (("plain", ""), ("shared", "share_steps = True\n")):
        ComparisonRun(load_comparison(write_comparison(text + more)), tmp_path / name, None, "test").run()
        rows.append(read_results(tmp_path / name / "results.jsonl"))
    assert [(row.key, row.psnr, row.ssim, row.schedule) for row in rows[0]] == [
        (row.key, row.psnr, row.ssim, row.schedule) for row in rows[1]
    ]


def test_a_pipeline_of_diffusers_shares_nothing(tmp_path):
    run = Path(__file__).parents[2] / "configs" / "latte" / "sample.py"
    (tmp_path / "compare.py").write_text(
        f"run = '{run}'\nshare_steps = True\nsettings = dict(a=dict(cache=dict(type='Static')))\n"
    )
    with pytest.raises(ValueError, match="share_steps needs Open-Sora's models"):
        load_comparison(tmp_path / "compare.py")


@pytest.mark.slow
def test_two_workers_make_the_same_rows(write_comparison, tmp_path):
    text = "settings = dict(every2=dict(cache=dict(type='Static', interval=2)))\nbatch_size = 2\nnum_seeds = 2\n"
    rows = {}
    for name, overrides in (("one", {}), ("two", {"executor.type": "local", "executor.workers": 2})):
        path = write_comparison(text + "share_steps = True\nkeep_videos = False\n")
        ComparisonRun(load_comparison(path, overrides), tmp_path / name, None, "test").run()
        rows[name] = sorted(
            (row.key, row.psnr, row.schedule) for row in read_results(tmp_path / name / "results.jsonl")
        )
    assert len(rows["one"]) == 8 and str(rows["one"]) == str(rows["two"])
