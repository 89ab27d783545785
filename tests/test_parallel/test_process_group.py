"""Several processes on one run: every video once, and the same as from one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from opensora_adacache.config import load_config
from opensora_adacache.generation.run import run
from opensora_adacache.parallel import ProcessGroup, process_group

ROOT = Path(__file__).parents[2]
PROMPTS = ["a red circle", "a blue square", "a green triangle"]
CACHE = "cache = dict(type='AdaCache', codebook={0.1: 4, 0.3: 3, 0.6: 2, 1.0: 1})\n"


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as group:
        assert group == ProcessGroup()
        assert group.gather("a") == ["a"] and group.broadcast("a") == "a"
        assert group.share([1, 2]) == [1, 2]


@pytest.mark.distributed
def test_two_processes_make_the_videos_of_one(tmp_path, tiny_config):
    config = tmp_path / "tiny.py"
    config.write_text(tiny_config + CACHE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    flags = [str(config), "--save-dir", str(tmp_path / "two"), "--logdate-dir", "True", "--prompt", *PROMPTS]
    done = subprocess.run(
        [*command, str(ROOT / "scripts" / "inference.py"), *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "two").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert (record["state"], record["num_processes"], record["num_finished"]) == ("complete", 2, 3)
    assert all(seconds["denoising"] > 0 for seconds in record["seconds"])

    single = load_config(config, {"prompt": PROMPTS, "save_dir": str(tmp_path / "one")})
    run(single)
    for index in range(len(PROMPTS)):
        name = f"sample_{index:04d}.mp4"
        assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
