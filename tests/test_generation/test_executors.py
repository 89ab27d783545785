"""Whole runs with an executor: the videos of a single process, each written once, also when a worker is killed."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from opensora_adacache.config import load_config
from opensora_adacache.config.executor import ExecutorSettings
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.generation.batches import plan_batches
from opensora_adacache.generation.executors import choose_executor
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.making import WorkerMaking
from opensora_adacache.generation.records import read_record, read_run
from opensora_adacache.generation.run import run
from opensora_adacache.parallel import ProcessGroup

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "blue", "green", "yellow", "white", "black")
PROMPTS = [f"a {colour} {shape}" for colour in COLOURS for shape in ("circle", "square", "triangle", "star")]
# The bundled model with a cache that decides during the run, at few steps.
FLAGS = ["configs/scenes/sample.py", "--num-sampling-steps", "3", "--prompt", *PROMPTS, "--cfg-options"]
FLAGS += ["cache.type=AdaCache", "cache.codebook={0.1:3,0.3:2,1.0:1}", "cache.decision=sample"]


@pytest.fixture
def configure(tmp_path, tiny_config):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)

    def configure(folder="out", **overrides):
        values = {"prompt": ["a red circle", "a blue square"], "save_dir": str(tmp_path / folder), **overrides}
        return load_config(path, {key.replace("__", "."): value for key, value in values.items()})

    return configure


def digests(folder):
    return {path.name: read_record(path.with_suffix(".json")).file for path in sorted(folder.glob("*.mp4"))}


def command(save_dir, *flags):
    return [sys.executable, "scripts/inference.py", *FLAGS, "--save-dir", str(save_dir), *flags]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run in a single process."""
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run(command(folder), cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=900)
    assert len(digests(folder)) == 24
    return folder


class Watched:
    """A run in a process of its own, whose output and files are watched while it goes on.

    Attributes:
        workers: processes of the workers that were ready.
        inodes: name of a video -> every inode that it had; a file that is written again gets another one.
    """

    def __init__(self, folder, *flags):
        self.folder, self.workers, self.inodes = folder, [], {}
        self.process = subprocess.Popen(
            command(folder, *flags),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines = threading.Thread(target=self._read, daemon=True)
        self._lines.start()

    def _read(self):
        for line in self.process.stdout:
            if found := re.match(r"worker \d+: process (\d+) on ", line):
                self.workers.append(int(found[1]))

    def watch(self, until, seconds=600):
        """Look at the files until a condition holds."""
        end = time.monotonic() + seconds
        while True:
            ended = until()  # before the files, so that none is missed
            for path in self.folder.glob("*.mp4"):
                self.inodes.setdefault(path.name, set()).add(path.stat().st_ino)
            if ended:
                return
            assert time.monotonic() < end
            time.sleep(0.02)

    def finish(self):
        """Wait for the end and return the lines on stderr."""
        self.watch(lambda: self.process.poll() is not None)
        self._lines.join()
        with self.process:  # closes its pipes
            return self.process.stderr.read().splitlines()


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_24_videos_of_two_workers_of_which_one_is_killed(tmp_path, alone, executor):
    if executor == "ray":
        pytest.importorskip("ray")
    folder = tmp_path / "out"
    watched = Watched(folder, "--executor", executor, "--workers", "2")
    watched.watch(lambda: len(watched.workers) == 2 and len(watched.inodes) >= 8)
    os.kill(watched.workers[0], signal.SIGKILL)
    errors = watched.finish()
    assert watched.process.returncode == 0, errors
    assert digests(folder) == digests(alone)
    for path in alone.glob("*.mp4"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert {name: len(inodes) for name, inodes in watched.inodes.items()} == dict.fromkeys(digests(alone), 1)
    # on a slow machine, a line may also say that no worker is ready yet
    (warning,) = [line for line in errors if "no worker is ready" not in line]
    assert re.match(r"warning: worker \d .*; another worker makes 'sample_00\d\d\.mp4'$", warning)
    record = read_run(folder)
    assert (record.state, record.num_finished, len(record.videos)) == ("complete", 24, 24)
    # the worker that came for the killed one may have been too late to make anything
    assert record.num_processes == len(record.seconds) in (2, 3) and len(set(watched.workers)) in (2, 3)
    assert all(seconds["denoising"] > 0 for seconds in record.seconds)
    # videos, records and run.json, and nothing else
    assert len(list(folder.iterdir())) == 49


@pytest.mark.slow
@pytest.mark.distributed
def test_a_run_is_interrupted_and_resumed_with_another_executor(tmp_path, alone):
    folder = tmp_path / "out"
    watched = Watched(folder, "--executor", "local", "--workers", "2")
    watched.watch(lambda: len(watched.inodes) >= 5)
    watched.process.send_signal(signal.SIGTERM)
    errors = watched.finish()
    assert watched.process.returncode == 130
    finished = len(digests(folder))
    assert errors == [
        f"interrupted: {finished} of 24 videos are finished in '{folder}'; run the same command again to make the rest"
    ]
    assert read_run(folder).state == "interrupted" and 5 <= finished < 24
    assert not any(Path(f"/proc/{worker}/cmdline").exists() for worker in watched.workers)
    subprocess.run(command(folder), cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=900)
    assert digests(folder) == digests(alone)
    assert read_run(folder).state == "complete"


def test_reports_are_small_and_a_video_is_not_made_twice_in_a_run(configure):
    config = configure()
    run(config)
    batches = plan_batches(plan_jobs(config), configure(overwrite=True))
    untouched = [job.path.stat().st_mtime_ns for batch in batches for job in batch.jobs]
    with WorkerMaking(config, read_run(config.save_dir).run)(batches, 0) as make:
        reports = list(make(batches))
    assert [report.name for report in reports] == ["sample_0000.mp4", "sample_0001.mp4"]
    assert reports[0].line.endswith("sample_0000.mp4: computed 8 of 8 steps")
    assert untouched == [job.path.stat().st_mtime_ns for batch in batches for job in batch.jobs]
    frames = 3 * 17 * 64 * 64 * 4
    assert max(len(pickle.dumps(report)) for report in reports) < 1500 < frames / 500


def test_a_worker_reports_its_warnings(configure):
    long = "a red circle and a blue square move slowly up and down and left"
    config = configure(prompt=[long])
    run(config)
    overwriting = configure(prompt=[long], overwrite=True)
    batches = plan_batches(plan_jobs(overwriting), overwriting)
    with WorkerMaking(overwriting, read_run(config.save_dir).run)(batches, 0) as make:
        (report,) = make(batches)
    assert report.warnings == ("prompt 0 is longer than 12 tokens; the model does not see its end 'down and left'",)


def test_a_machine_that_does_not_see_the_folder_is_named(configure):
    config = configure()
    with pytest.raises(OSError, match="is not the folder of this run; all machines need a file system that they share"):
        with WorkerMaking(config, "another run")([], 0):
            pass
    assert not config.save_dir.exists()


def test_the_expected_cost_is_planned_steps_times_size(configure):
    (first, _) = plan_batches(plan_jobs(config := configure()), config)
    assert first.cost(config) == 8 * 17 * 64 * 64 and first.name == "sample_0000.mp4"
    config = configure(batch_size=2, cache__type="Static", cache__interval=4)
    (both,) = plan_batches(plan_jobs(config), config)
    assert both.cost(config) == 2 * len(config.cache.fixed_steps(8)) * 17 * 64 * 64
    config = configure(loop=2, cache__codebook={1.0: 2}, num_frames=34)
    assert plan_batches(plan_jobs(config), config)[0].cost(config) == 2 * 8 * 34 * 64 * 64


def test_decoding_ahead_in_a_worker_is_told_to_have_no_effect(configure, capsys):
    config = configure(vae__decode_ahead=True)
    run(config)
    assert capsys.readouterr().err == ""
    assert run(configure(vae__decode_ahead=True, executor__workers=1)).num_made == 0
    assert "warning: vae.decode_ahead has no effect with an executor" in capsys.readouterr().err


def test_too_few_gpus_are_told_before_anything_is_written(configure, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    config = configure(executor__workers=4)
    with pytest.raises(ConfigError, match="4 workers need a GPU each, but this machine has 2; pass --workers 2"):
        run(config)
    assert not config.save_dir.exists()
    assert choose_executor(ExecutorSettings(), ProcessGroup(), 1, print, print).num_workers == 2


def test_an_executor_within_torchrun_is_refused():
    with pytest.raises(ConfigError, match="executor 'local' starts processes itself; start the command once"):
        choose_executor(ExecutorSettings(), ProcessGroup(1, 2), 1, print, print)


def test_without_ray_the_extra_is_named(configure, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    config = configure(executor__type="ray")
    with pytest.raises(
        OSError, match=r"needs the package ray; install it with: pip install 'opensora-adacache\[ray\]'"
    ):
        run(config)
    assert not config.save_dir.exists()
