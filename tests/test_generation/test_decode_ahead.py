"""Decoding in a second thread: the same videos, errors in order, nothing that was denoised is lost."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation.decode_ahead import DecodeAhead
from opensora_adacache.generation.folder import RunFolder
from opensora_adacache.generation.pipeline import Pipeline
from opensora_adacache.generation.records import FileDigest, read_run
from opensora_adacache.generation.run import RunInterrupted, run

PROMPTS = ["a red circle moves left", "a blue square", "a green triangle"]
CACHE = {"cache.codebook": {0.1: 4, 0.3: 3, 0.6: 2, 1.0: 1}}
CPU = torch.device("cpu")
TIMEOUT = 60
"""Seconds after which a thread that waits for another one gives up, so that a broken test ends."""


@pytest.fixture
def configure(tmp_path, tiny_config):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)

    def configure(folder="out", decode_ahead=True, **overrides):
        values = {"prompt": PROMPTS, "save_dir": str(tmp_path / folder), "vae.decode_ahead": decode_ahead}
        return load_config(path, {**values, **overrides})

    return configure


def videos(config):
    return {path.name: path.read_bytes() for path in config.save_dir.glob("*.mp4")}


def check_records(config):
    """Assert that every video has its own record; return the names of the videos."""
    names = sorted(videos(config))
    for name in names:
        path = config.save_dir / name
        assert json.loads(path.with_suffix(".json").read_text())["file"]["sha256"] == FileDigest.of(path).sha256
    return names


@pytest.mark.parametrize(
    "options",
    [CACHE, pytest.param({"loop": 2, "num_frames": 34, "batch_size": 2}, marks=pytest.mark.slow)],
    ids=["cached", "loops and batches"],
)
def test_the_same_videos_as_without(configure, options):
    plain, ahead = configure("plain", False, **options), configure("ahead", **options)
    assert run(plain).num_made == run(ahead).num_made == 3
    assert videos(plain) == videos(ahead)
    assert check_records(ahead) == ["sample_0000.mp4", "sample_0001.mp4", "sample_0002.mp4"]
    assert read_run(ahead.save_dir).state == "complete"


def test_the_next_video_is_denoised_meanwhile(configure, monkeypatch):
    """The first video is decoded only once the second one is being denoised."""
    denoised, denoise, decode = [], Pipeline._denoise, Pipeline.decode
    second = threading.Event()

    def denoise_and_tell(self, *arguments):
        denoised.append(threading.current_thread())
        if len(denoised) == 2:
            second.set()
        return denoise(self, *arguments)

    def wait_and_decode(self, latents):
        assert second.wait(TIMEOUT)
        assert threading.current_thread() not in denoised
        return decode(self, latents)

    monkeypatch.setattr(Pipeline, "_denoise", denoise_and_tell)
    monkeypatch.setattr(Pipeline, "decode", wait_and_decode)
    config = configure(prompt=PROMPTS[:2])
    assert run(config).num_made == 2
    assert check_records(config) == ["sample_0000.mp4", "sample_0001.mp4"]


def test_an_error_ends_the_run_at_the_next_step(configure, monkeypatch):
    denoise, save, calls, failed = Pipeline._denoise, RunFolder.save, [], threading.Event()

    def denoise_after_the_error(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            assert failed.wait(TIMEOUT)
        return denoise(self, *arguments)

    def no_space_for_the_first(self, job, *others):
        if job.index == 0:
            failed.set()
            raise OSError("cannot write 'sample_0000.mp4'")
        save(self, job, *others)

    monkeypatch.setattr(Pipeline, "_denoise", denoise_after_the_error)
    monkeypatch.setattr(RunFolder, "save", no_space_for_the_first)
    config = configure()
    with pytest.raises(OSError, match="cannot write 'sample_0000.mp4'"):
        run(config)
    assert len(calls) == 2 and "sample_0000.mp4" not in videos(config)
    assert read_run(config.save_dir).state == "failed"


def test_an_interrupted_run_keeps_the_video_that_is_being_decoded(configure, monkeypatch):
    save, denoise = RunFolder.save, Pipeline._denoise
    denoised, interrupted = [], threading.Event()

    def interrupt_the_second(self, *arguments):
        denoised.append(1)
        if len(denoised) == 2:
            interrupted.set()
            os.kill(os.getpid(), signal.SIGTERM)
        return denoise(self, *arguments)

    def save_after_the_signal(self, *arguments):
        assert interrupted.wait(TIMEOUT)
        save(self, *arguments)

    monkeypatch.setattr(Pipeline, "_denoise", interrupt_the_second)
    monkeypatch.setattr(RunFolder, "save", save_after_the_signal)
    config = configure()
    with pytest.raises(RunInterrupted, match="1 of 3 videos are finished"):
        run(config)
    assert check_records(config) == ["sample_0000.mp4"]
    record = read_run(config.save_dir)
    assert (record.state, record.num_finished) == ("interrupted", 1)
    monkeypatch.undo()
    assert run(config).num_made == 2


def test_without_a_thread_the_work_is_done_at_once():
    threads = []
    with DecodeAhead(CPU, enabled=False) as decoder:
        decoder.submit(lambda: threads.append(threading.current_thread()))
        assert threads == [threading.current_thread()]
        with pytest.raises(ValueError, match="bad"):
            decoder.submit(raising("bad"))
        decoder.check()


def test_one_batch_waits_at_most_and_all_are_finished_in_order():
    order, may_end = [], threading.Event()
    with DecodeAhead(CPU) as decoder:
        decoder.submit(lambda: order.append(may_end.wait(TIMEOUT) and "first"))
        assert order == []  # the caller goes on
        threading.Timer(0.05, may_end.set).start()
        decoder.submit(lambda: order.append("second"))
        assert order[0] == "first"
    assert order == ["first", "second"]


def test_the_first_error_is_raised_and_later_batches_are_finished():
    finished = []
    with pytest.raises(ValueError, match="first"), DecodeAhead(CPU) as decoder:
        decoder.submit(raising("first"))
        decoder.submit(lambda: finished.append("second"))
    assert finished == ["second"]
    with pytest.raises(ValueError, match="last"), DecodeAhead(CPU) as decoder:
        decoder.submit(raising("last"))


def raising(message):
    def finish():
        raise ValueError(message)

    return finish
