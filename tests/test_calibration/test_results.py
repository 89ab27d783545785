"""Settings that calibrations add to one file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.calibration.results import CalibratedOutput, Found
from opensora_adacache.errors.family import WriteError
from opensora_adacache.media.files import one_writer
from opensora_adacache.presets.calibrated_file import read_calibrated


def output(path):
    return CalibratedOutput(path, "model", 10, "command")


def test_calibrations_that_add_to_one_file_at_once_keep_what_each_found(tmp_path):
    path, together = tmp_path / "found.json", Barrier(8)

    def add(worker):
        own = output(path)
        together.wait()
        for step in (2, 3, 4):
            own.add({f"planned-{worker}-{step}": Found(PlannedConfig(steps=(1, step)), 2.0)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert set(read_calibrated(path).settings) == {f"planned-{i}-{step}" for i in range(8) for step in (2, 3, 4)}


def test_an_earlier_setting_of_the_same_name_is_replaced(tmp_path):
    path = tmp_path / "found.json"
    for step in (2, 5):
        output(path).add({"planned-2x": Found(PlannedConfig(steps=(1, step)), 2.0)})
    assert read_calibrated(path).settings["planned-2x"].section["steps"] == [1, 5]


def test_one_writer_at_a_time(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with one_writer(tmp_path / "new"):
            adding = pool.submit(output(tmp_path / "new" / "found.json").add, {})
            with pytest.raises(TimeoutError):
                adding.result(timeout=0.1)
        adding.result(timeout=10)
    assert (tmp_path / "new" / "found.json").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot write .*file"), one_writer(tmp_path / "file"):
        raise AssertionError("entered")
