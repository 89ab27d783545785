"""The script that calibrates the bundled model finds everything that ships, and continues where it was interrupted."""

import runpy

import pytest

from opensora_adacache.calibration.bundled import NUM_STEPS, list_wanted
from opensora_adacache.config.calibrated import FOLDER
from opensora_adacache.config.paths import SHIPPED
from opensora_adacache.presets.calibrated_file import read_calibrated

SCRIPT = runpy.run_path(str(SHIPPED / "scripts" / "calibrate_bundled.py"))


@pytest.mark.parametrize("num_steps", [steps for steps in NUM_STEPS if (FOLDER / f"scenes_{steps}.json").exists()])
def test_it_finds_everything_that_ships(num_steps):
    shipped = read_calibrated(FOLDER / f"scenes_{num_steps}.json").settings
    names = [wanted.name for wanted in list_wanted(num_steps)]
    assert len(names) == len(set(names))
    derived = {"adacache-2.5x-medium", "adacache-2.5x-slow", "moreg"} if num_steps == 30 else set()
    assert set(shipped) <= {*names, *derived}


def test_it_finds_what_shipped_and_only_what_is_missing(tmp_path, capsys):
    arguments = ["30", "--policy", "taylorseer", "--out", str(tmp_path)]
    assert SCRIPT["main"](arguments) == 0
    found = read_calibrated(tmp_path / "configs" / "scenes_30.json").settings
    shipped = read_calibrated(FOLDER / "scenes_30.json").settings
    assert {name: one.section for name, one in found.items()} == {
        name: one.section for name, one in shipped.items() if name.startswith("taylorseer")
    }
    assert capsys.readouterr().out.count("taylorseer-") == len(found) == 3
    assert SCRIPT["main"](arguments) == 0
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "presets").exists()
