"""Whole runs of diffusers pipelines by config: files, records, resuming, settings of each family."""

from __future__ import annotations

import json

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation.folder import RunFolder
from opensora_adacache.generation.records import read_record, read_run
from opensora_adacache.generation.run import RunInterrupted, run
from opensora_adacache.media.reading import read_video

CACHE = {"cache.codebook": {1e9: 2, 1e10: 1}}
COMPUTED = "##.###"  # the codebook's rate is 2; the first two and the last two steps always compute
# Mochi asks for a kind of autocast that CPUs lack, and computes without it.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not supported")

# family -> its runs within a video: a trace for each transformer and each call that guidance takes
BRANCHES = {
    "latte": ["transformer"],
    "cogvideox": ["transformer cond_uncond"],
    "wan": ["transformer cond", "transformer uncond"],
    "hunyuan-video": ["transformer cond"],
    "hunyuan-video-1.5": ["transformer pred_cond", "transformer pred_uncond"],
    "ltx-video": ["transformer cond_uncond"],
    "ltx-2": ["transformer cond_uncond", "transformer uncond_stg", "transformer uncond_modality"],
    "mochi": ["transformer cond_uncond"],
}
FAMILIES = [pytest.param(name, marks=[] if name == "wan" else pytest.mark.slow) for name in BRANCHES]


@pytest.fixture
def configure(tmp_path, pipeline_config):
    def configure(name, folder="out", **overrides):
        path = tmp_path / f"{name}.py"
        path.write_text(pipeline_config(name))
        return load_config(path, {"save_dir": str(tmp_path / folder), **overrides})

    return configure


def videos(config):
    return {path.name: path.read_bytes() for path in config.save_dir.glob("*.mp4")}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_is_recorded_and_goes_on_where_it_was_interrupted(name, configure, monkeypatch):
    config = configure(name, **CACHE)
    assert run(config).num_made == 3
    record = read_record(config.save_dir / "sample_0001.json")
    schedules = ["".join("#" if step["computed"] else "." for step in trace) for trace in record.traces]
    assert record.branches == BRANCHES[name] and schedules == [COMPUTED] * len(BRANCHES[name])
    assert (record.num_steps, record.computed_steps) == (6 * len(schedules), 5 * len(schedules))
    assert (record.prompt, record.seed, record.settings["pipeline"]["call"]["num_inference_steps"]) == (
        "a blue square",
        8,
        6,
    )
    assert record.peak_cache_bytes > 0 and read_video(config.save_dir / record.video).shape[2:] == (32, 32)
    whole = read_run(config.save_dir)
    assert whole.state == "complete" and whole.num_finished == 3
    assert whole.config["pipeline"]["torch_dtype"] == "fp32"

    # a second folder, interrupted before its second video and resumed, holds the same files
    again, save = configure(name, "again", **CACHE), RunFolder.save

    def interrupted(self, job, *others):
        if job.index == 1:
            raise KeyboardInterrupt
        save(self, job, *others)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", interrupted)
        with pytest.raises(RunInterrupted, match="1 of 3 videos are finished"):
            run(again)
    assert run(again).num_made == 2 and videos(again) == videos(config)


@pytest.mark.slow
def test_a_batch_gives_the_videos_of_single_runs(configure):
    """Each video has its own random stream, and its own schedule with decision='sample'."""
    single = configure("wan", "single", **CACHE, **{"cache.decision": "sample"})
    batch = configure("wan", "batch", batch_size=3, **CACHE, **{"cache.decision": "sample"})
    run(single)
    run(batch)
    for name in sorted(videos(single)):
        one, other = (read_video(config.save_dir / name) for config in (single, batch))
        torch.testing.assert_close(one, other, atol=0.02, rtol=0)
    assert read_record(batch.save_dir / "sample_0002.json").batch_size == 3


@pytest.mark.slow
def test_both_experts_of_wan_2_2_have_a_trace(configure):
    config = configure("wan-2.2", **CACHE, prompt=["a red circle"])
    run(config)
    record = read_record(config.save_dir / "sample_0000.json")
    lengths = {branch: len(trace) for branch, trace in zip(record.branches, record.traces, strict=True)}
    first, second = lengths["transformer cond"], lengths["transformer_2 cond"]
    assert first + second == 6 and min(first, second) > 0
    assert lengths == {
        "transformer cond": first,
        "transformer uncond": first,
        "transformer_2 cond": second,
        "transformer_2 uncond": second,
    }
    assert record.num_steps == 12
    plain = configure("wan-2.2", "plain", prompt=["a red circle"])
    run(plain)
    record = read_record(plain.save_dir / "sample_0000.json")
    assert (record.num_steps, record.computed_steps, record.traces) == (12, 12, [])


def test_a_changed_call_does_not_take_old_videos_for_its_own(configure):
    run(configure("wan", prompt=["a red circle"]))
    changed = configure("wan", prompt=["a red circle"], **{"pipeline.call.guidance_scale": 3.0})
    with pytest.raises(ValueError, match=r"pipeline.call.guidance_scale was None and is 3.0 now\); pass --overwrite"):
        run(changed)
    assert run(configure("wan", prompt=["a red circle"], **{"pipeline.offload": "model"})).num_skipped == 1


def test_values_that_are_not_finite_are_not_written(configure, monkeypatch):
    from diffusers import AutoencoderKLWan

    decode = AutoencoderKLWan.decode

    def overflow(self, *args, **kwargs):
        return tuple(part * float("nan") for part in decode(self, *args, **kwargs))

    monkeypatch.setattr(AutoencoderKLWan, "decode", overflow)
    config = configure("wan", prompt=["a red circle"])
    with pytest.raises(ValueError, match="the pipeline returned values that are not finite"):
        run(config)
    assert not videos(config) and read_run(config.save_dir).failed


@pytest.mark.slow
@pytest.mark.distributed
def test_several_processes_share_the_prompts(configure, tmp_path):
    import os
    import subprocess
    import sys
    from pathlib import Path

    alone = configure("wan", "alone", **CACHE)
    run(alone)
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", str(root / "scripts/inference.py")]
    command += [
        str(alone.path),
        "--save-dir",
        str(tmp_path / "shared"),
        "--cfg-options",
        "cache.codebook={1e9:2,1e10:1}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    shared = {path.name: path.read_bytes() for path in (tmp_path / "shared").glob("*.mp4")}
    assert shared == videos(alone)
    whole = json.loads((tmp_path / "shared" / "run.json").read_text())
    assert (whole["num_processes"], whole["num_finished"]) == (2, 3)
