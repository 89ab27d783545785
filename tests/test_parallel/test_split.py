"""A team of processes makes the video that one process makes, decides as it does, and sends what the formula says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from opensora_adacache.caching.registry import POLICIES
from opensora_adacache.costs.parallel import SplitVideo

HERE = Path(__file__).parent
start = runpy.run_path(str(HERE / "start.py"))
SCRIPT = HERE / "split_runs.py"
DEPTH, CHANNELS, OUTPUTS = 4, 64, 8  # of the model of the reference vectors
SIZES = {"budget": (4, 8, 8), "moreg-s": (7, 12, 10)}
VIDEOS = {"per-video": 3, "block": 3, "forecast": 2, "budget": 2, "fbcache": 2}
LAYOUTS = [(2, 1), (3, 1), (4, 1), (1, 2), (2, 2)]


def run(sequence: int, guidance: int, *names: str) -> list[dict[str, dict]]:
    """Return for each process its results by case."""
    printed = start["results"](SCRIPT, [str(sequence), str(guidance), *names], sequence * guidance)
    return [{line["case"]: line for line in lines} for lines in printed]


def check(processes: list[dict[str, dict]], limit: float = 1e-5) -> None:
    """Check that every process got the video and the schedule of one process."""
    for results in processes:
        for name, result in results.items():
            assert result["difference"] <= limit, name
            assert result["together"] == result["alone"] == processes[0][name]["alone"], name


@pytest.mark.distributed
def test_two_processes_make_the_video_of_one():
    processes = run(2, 1, "moreg", "per-video", "forecast")
    check(processes)
    assert any(len(set(map(tuple, results["per-video"]["alone"]))) > 1 for results in processes)  # they differ


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("sequence", "guidance"), LAYOUTS)
def test_every_layout_makes_the_video_of_one_process_and_sends_what_the_formula_says(sequence, guidance):
    processes = run(sequence, guidance)
    check(processes)
    for rank, results in enumerate(processes):
        for name, result in results.items():
            if name not in ("pab", "block"):
                check_traffic(name, result, sequence, guidance, rank)


def check_traffic(name: str, result: dict, sequence: int, guidance: int, rank: int) -> None:
    """Compare what a process sent at each step with the formula."""
    frames, height, width = SIZES.get(name, (5, 6, 10))
    part, videos = rank % sequence, VIDEOS.get(name, 1)
    video = SplitVideo(frames, height // 2 * width // 2, CHANNELS, 4, (OUTPUTS, height, width), sequence, guidance)
    schedules = [set(schedule) for schedule in result["together"]]
    for step, sent in enumerate(result["sent"], start=1):
        exchanged = [size for kind, size in sent if kind == "exchange"]
        gathered = [size for kind, size in sent if kind == "gather"]
        assert {kind for kind, _ in sent} <= {"exchange", "gather"}
        rows = videos // len(schedules) * sum(step in schedule for schedule in schedules)
        assert gathered.count(video.output_bytes() * videos) == 1
        messages = [size for size in gathered if size != video.output_bytes() * videos]
        if name in ("plain", "pab"):
            assert not messages
        elif name == "fbcache":
            assert len(messages) == (step > 1)  # its signal, on every step that has one to compare with
        else:
            assert len(messages) == bool(rows and step > 1)  # one at a computed step, none at a reused one
        if sequence == 1:
            assert not exchanged
            continue
        if not name.startswith("moreg"):
            assert sum(exchanged) == rows * DEPTH * video.attention_bytes(part)
        else:
            motions = sum(exchanged) - rows * DEPTH * video.attention_bytes(part)
            assert motions in (0, rows * video.motion_bytes(part))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("sequence", "guidance"), [(3, 1), (2, 2)])
def test_recorded_runs_of_the_reference(sequence, guidance):
    check(run(sequence, guidance, "recorded"))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("sequence", "guidance"), [(2, 1), (1, 2)])
def test_every_policy_works_or_is_refused(sequence, guidance):
    processes = run(sequence, guidance, "policies")
    refused = {name for name, result in processes[0].items() if "refused" in result}
    assert refused == ({"policy SeaCache", "policy DiCache"} if sequence > 1 else set())
    assert len(processes[0]) == len(POLICIES)
    check([{name: result for name, result in results.items() if name not in refused} for results in processes])


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("sequence", "guidance"), [(3, 1), (2, 2)])
def test_the_bundled_model(sequence, guidance):
    names = ("adacache", "moreg", "per-video", "forecast", "fbcache", "pab", "mask")
    processes = run(sequence, guidance, "bundled", *names)
    check(processes)
    assert len(processes[0]) == len(names)
