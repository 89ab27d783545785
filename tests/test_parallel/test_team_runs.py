"""Runs whose videos several processes make together: the videos of one process, and an orderly end."""

from __future__ import annotations

import json
import os
import runpy
import signal
import time
from pathlib import Path

import pytest

from opensora_adacache.config import load_config
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.generation.records import read_record, record_path
from opensora_adacache.generation.run import run
from opensora_adacache.media.reading import read_video

ROOT = Path(__file__).parents[2]
INFERENCE = ROOT / "scripts" / "inference.py"
start = runpy.run_path(str(Path(__file__).with_name("start.py")))["start"]
CACHE = "cache = dict(type='AdaCache', codebook={0.1: 4, 0.3: 3, 0.6: 2, 1.0: 1})\n"
PROMPTS = ["a red circle", "a blue square"]


@pytest.fixture
def config(tmp_path, tiny_config) -> Path:
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config + CACHE)
    return path


def arguments(config: Path, folder: Path, *options: str) -> list[str]:
    flags = [str(config), "--save-dir", str(folder), "--prompt", *PROMPTS]
    return [*flags, "--cfg-options", *options]


def wait_for(processes, timeout: float = 300) -> list[tuple[int, str]]:
    """Return how each process ended and what it wrote to stderr."""
    ended = []
    try:
        for process in processes:
            errors = process.communicate(timeout=timeout)[1]
            ended.append((process.returncode, errors))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return ended


def check_same_videos(folder: Path, expected: Path) -> None:
    for index in range(len(PROMPTS)):
        name = f"sample_{index:04d}.mp4"
        video, wanted = read_video(folder / name), read_video(expected / name)
        # rounding moves single values, and the codec spreads that over a block
        assert video.shape == wanted.shape and (video - wanted).square().mean().sqrt() < 0.01, name
        records = [read_record(record_path(path / name)) for path in (folder, expected)]
        assert records[0].computed_steps == records[1].computed_steps < records[0].num_steps
        assert records[0].settings == records[1].settings


@pytest.mark.slow
@pytest.mark.distributed
def test_two_teams_make_the_videos_of_one_process(tmp_path, config):
    """Two teams of two processes: the first frames are given, two loops of two chunks of the VAE."""
    image = tmp_path / "images"
    still = load_config(config, {"prompt": PROMPTS, "save_dir": str(image)}, image=True)
    run(still)
    values = {"num_frames": 34, "loop": 2, "reference_path": str(image), "mask_strategy": "0"}
    alone = {**values, "prompt": PROMPTS, "save_dir": str(tmp_path / "alone")}
    run(load_config(config, alone))
    options = [f"{key}={value}" for key, value in values.items()]
    for sequence, guidance in ((2, 1), (1, 2)):
        folder = tmp_path / f"together{guidance}"
        split = [f"parallel.sequence={sequence}", f"parallel.guidance={guidance}", "preview=3"]
        ended = wait_for(start(INFERENCE, arguments(config, folder, *options, *split), 4))
        assert [status for status, _ in ended] == [0] * 4, ended
        check_same_videos(folder, tmp_path / "alone")
        record = json.loads((folder / "run.json").read_text())
        assert (record["state"], record["num_processes"], record["num_finished"]) == ("complete", 4, 2)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("lost", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_ends_in_mid_step_ends_the_others(tmp_path, config, lost, rank):
    """Without torchrun, so that nobody else ends them. A suspended process is one that no connection tells of."""
    folder = tmp_path / "out"
    options = ["scheduler.num_sampling_steps=120", "parallel.sequence=3", "cache=None"]
    processes = start(INFERENCE, arguments(config, folder, *options), 3)
    while not (folder / "sample_0000.mp4").exists():  # the second video is being denoised
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    os.kill(processes[rank].pid, lost)
    begin = time.monotonic()
    others = [process for index, process in enumerate(processes) if index != rank]
    ended = wait_for(others, timeout=60)
    assert time.monotonic() - begin < 30
    processes[rank].kill()
    processes[rank].communicate()  # closes its pipes
    assert all(status == 3 for status, _ in ended)
    lines = [line for _, errors in ended for line in errors.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith(
        f"process {rank} ended or does not answer: 1 of 2 videos are finished"
    )
    # another number of processes makes the rest
    first = (folder / "sample_0000.mp4").read_bytes()
    rest = arguments(config, folder, *options[:1], "parallel.sequence=2", "cache=None")
    ended = wait_for(start(INFERENCE, rest, 2))
    assert [status for status, _ in ended] == [0, 0], ended
    assert (folder / "sample_0000.mp4").read_bytes() == first and (folder / "sample_0001.mp4").exists()
    assert json.loads((folder / "run.json").read_text())["state"] == "complete"


@pytest.mark.slow
@pytest.mark.distributed
def test_processes_that_differ_are_found_before_they_work(tmp_path, config):
    other = tmp_path / "other.py"
    other.write_text(config.read_text())
    folder = tmp_path / "out"
    same = arguments(config, folder, "parallel.sequence=2")
    ended = wait_for(start(INFERENCE, same, 2, {1: arguments(config, folder, "parallel.sequence=2", "seed=8")}))
    assert [status for status, _ in ended] == [2, 2]
    assert ended[0][1] == (
        "error: process 1 of this run has seed 8, but process 0 has 7; start all of them with the same command and the "
        "same installation\n"
    )
    assert not folder.exists()


def test_a_team_needs_its_processes(config, tmp_path):
    split = load_config(config, {"prompt": PROMPTS, "save_dir": str(tmp_path), "parallel.sequence": 2})
    with pytest.raises(ConfigError, match="need a multiple of 2 processes, got 1: start them with torchrun"):
        run(split)
