"""Several processes in one run make every video once, and the same videos as one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from opensora_adacache.config import load_config
from opensora_adacache.generation.lock import FolderLock
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
        assert group.on_first(lambda: "a") == "a"
        with pytest.raises(ValueError, match="no"):
            group.on_first(lambda: int("no"))


def start_two(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*command, str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )


ON_FIRST = """
import os
from opensora_adacache.parallel import process_group

def say(line):
    os.write(1, (line + "\\n").encode())  # at once, because both processes write to one pipe

with process_group() as group:
    say("heard " + group.on_first(lambda: f"from {group.rank}"))
    try:
        group.on_first(lambda: int(f"no number {group.rank}"))
    except ValueError as error:
        say(f"raised {error}")
"""


@pytest.mark.slow
@pytest.mark.distributed
def test_every_process_gets_the_result_or_the_error_of_the_first(tmp_path):
    (tmp_path / "script.py").write_text(ON_FIRST)
    done = start_two(tmp_path / "script.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("heard from 0") == 2 and sum("'no number 0'" in line for line in lines) == 2


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_are_one_run_and_a_second_run_is_refused(tmp_path, tiny_config):
    config, folder = tmp_path / "tiny.py", tmp_path / "out"
    config.write_text(tiny_config)
    with FolderLock(folder) as lock:
        lock.acquire()
        done = start_two(ROOT / "scripts" / "inference.py", str(config), "--save-dir", str(folder), "--prompt", "a")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "is in use by process" in lines[0]
    assert "Error: [" not in done.stderr and list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_make_the_videos_of_one(tmp_path, tiny_config):
    config = tmp_path / "tiny.py"
    config.write_text(tiny_config + CACHE)
    flags = [str(config), "--save-dir", str(tmp_path / "two"), "--logdate-dir", "True", "--prompt", *PROMPTS]
    done = start_two(ROOT / "scripts" / "inference.py", *flags)
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
