"""VBench: prompts, names, result files, total. VBench itself is not run, because it needs CUDA and a network.

A program with the same module name, options and result files replaces it, in a separate process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import time
import venv
from pathlib import Path

import pytest

from opensora_adacache.benchmark.vbench import (
    environment_python,
    link_videos,
    read_prompts,
    read_result,
    run_dimension,
    video_names,
)
from opensora_adacache.benchmark.vbench_score import DIMENSIONS, total_score

ENTRIES = [
    {"prompt_en": "a cat", "dimension": ["object_class"], "auxiliary_info": {"object_class": {"object": "cat"}}},
    {"prompt_en": "a red car: 3.5, fast", "dimension": ["color", "dynamic_degree"]},
    {"prompt_en": "a cat", "dimension": ["dynamic_degree"]},
]
# Writes the files of vbench.launch.evaluate 0.1.5. The score is the number of videos that it found.
PROGRAM = """
import argparse, json, os, sys
parser = argparse.ArgumentParser()
for name in ("full_json_dir", "videos_path", "output_path"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--dimension", nargs="+", required=True)
parser.add_argument("--load_ckpt_from_local", type=bool)
options = parser.parse_args()
(dimension,) = options.dimension
if dimension == "color":
    print("loading", "CUDA is not available", "", sep="\\n")
    sys.exit(1)
seen = []
for entry in json.load(open(options.full_json_dir)):
    names = [f"{entry['prompt_en']}-{i}.mp4" for i in range(5)] if dimension in entry["dimension"] else []
    paths = [os.path.join(options.videos_path, name) for name in names]
    seen += [path for path in paths if os.path.exists(path)]
result = {dimension: [len(seen) / 10, [{"video_path": path, "video_results": 1.0} for path in seen]]}
with open(f"{options.output_path}/results_2025-01-16-20:09:52_eval_results.json", "w") as file:
    json.dump(result, file, indent=4)
"""

# What vbench.utils 0.1.5 does with the names of dimensions: it downloads to a folder, and fails without a network.
UTILS = """
import os, pathlib
def init_submodules(dimensions, local=False):
    if "color" in dimensions:
        raise OSError("no network")
    folder = pathlib.Path(os.environ["VBENCH_CACHE_DIR"])
    folder.mkdir()
    for name in dimensions if local else ():
        (folder / name).touch()
"""


@pytest.fixture
def full_info(tmp_path):
    path = tmp_path / "VBench_full_info.json"
    path.write_text(json.dumps(ENTRIES))
    return path


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for entry in ENTRIES:
        for index in range(5):
            path = folder / f"{entry['prompt_en']}-{index}.mp4"
            path.write_bytes(b"a video")
            path.with_suffix(".json").write_text("{}")  # our record, which VBench must not see
    return folder


@pytest.fixture
def environment(tmp_path):
    """A virtual environment that holds the program."""
    venv.create(tmp_path / "env", symlinks=True)
    package = next((tmp_path / "env").glob("lib/python*/site-packages")) / "vbench"
    (package / "launch").mkdir(parents=True)
    for folder in (package, package / "launch"):
        (folder / "__init__.py").write_text("")
    (package / "launch" / "evaluate.py").write_text(PROGRAM)
    (package / "utils.py").write_text(UTILS)
    (package / "VBench_full_info.json").write_text(json.dumps(ENTRIES))
    return tmp_path / "env"


@pytest.fixture
def script():
    path = Path(__file__).parents[2] / "scripts" / "vbench.py"
    spec = importlib.util.spec_from_file_location("vbench_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def result_of(dimension, names, score=0.5):
    return {dimension: [score, [{"video_path": f"/videos/{name}", "video_results": True} for name in names]]}


def test_total_by_hand():
    lowest = total_score({name: dimension.low for name, dimension in DIMENSIONS.items()})
    highest = total_score({name: dimension.high for name, dimension in DIMENSIONS.items()})
    assert (lowest.quality, lowest.semantic, lowest.total) == (0, 0, 0)
    assert (highest.quality, highest.semantic, highest.total) == pytest.approx((1, 1, 1))
    # Half the weight: dynamic degree is 0.5 of 6.5 in quality; any semantic dimension is 1 of 9.
    scores = {name: dimension.low for name, dimension in DIMENSIONS.items()}
    assert total_score(scores | {"dynamic_degree": 1.0}).total == pytest.approx(0.8 * 0.5 / 6.5)
    assert total_score(scores | {"scene": 0.4111}).total == pytest.approx(0.2 * 0.5 / 9)


def test_a_total_needs_every_dimension():
    scores = dict.fromkeys(DIMENSIONS, 0.5)
    with pytest.raises(ValueError, match="16 dimensions, 'scene' is missing"):
        total_score({name: score for name, score in scores.items() if name != "scene"})
    with pytest.raises(ValueError, match="'colour' is unknown"):
        total_score(scores | {"colour": 0.5})


def test_prompts_and_names(full_info):
    prompts = read_prompts(full_info)
    assert [prompt.text for prompt in prompts] == ["a cat", "a red car: 3.5, fast", "a cat"]
    assert video_names(prompts, ["object_class"]) == [f"a cat-{index}.mp4" for index in range(5)]
    assert (
        len(video_names(prompts, ["object_class", "dynamic_degree"])) == 10
    )  # a prompt that occurs twice is returned once
    assert video_names(prompts, ["scene"]) == []


@pytest.mark.parametrize("content", ["[]", "{}", '[{"prompt": 1}]', "3", '[{"prompt_en": "a'])
def test_another_file_than_the_prompts_is_refused(tmp_path, content):
    path = tmp_path / "info.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="info.json' .*name VBench_full_info.json"):
        read_prompts(path)
    with pytest.raises(FileNotFoundError, match="gone.json' does not exist; name VBench_full_info.json"):
        read_prompts(tmp_path / "gone.json")


def test_links_hold_the_videos_and_nothing_else(videos, tmp_path):
    names, links = [f"a cat-{index}.mp4" for index in range(5)], tmp_path / "out" / "videos"
    for _ in range(2):
        link_videos(videos, names, links)
        assert sorted(os.listdir(links)) == names and (links / names[0]).read_bytes() == b"a video"
    (videos / names[3]).unlink()
    (videos / names[4]).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="2 of 5 videos are missing or empty in .*, the first is 'a cat-3.mp4'"):
        link_videos(videos, names, links)
    with pytest.raises(FileNotFoundError, match="folder '.*nowhere' does not exist"):
        link_videos(tmp_path / "nowhere", names, links)
    with pytest.raises(ValueError, match="is not a link; choose another output folder"):
        link_videos(videos, names[:3], videos)
    assert (videos / names[0]).exists()


def test_results_are_read(tmp_path):
    names, path = ["a-0.mp4", "a-1.mp4"], tmp_path / "scene" / "results_x_eval_results.json"
    path.parent.mkdir()
    path.write_text(json.dumps(result_of("scene", names, 0.25)))
    assert read_result(path, "scene", names) == 0.25
    # A video without a detection is left out of this one.
    path.write_text(json.dumps(result_of("color", names[:1])))
    assert read_result(path, "color", names) == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(result_of("scene", ["a-0.mp4", "a-1.mp4"]))[:40], "truncated or not JSON"),
        ("", "truncated or not JSON"),
        (json.dumps(result_of("color", ["a-0.mp4", "a-1.mp4"])), "holds no result of 'scene'"),
        (json.dumps({"scene": 0.5}), "holds no result of 'scene'"),
        (json.dumps({"scene": ["high", []]}), "holds no result of 'scene'"),
        (json.dumps(result_of("scene", ["a-0.mp4"])), "lacks 'a-1.mp4'"),
        (json.dumps(result_of("scene", ["a-0.mp4", "a-1.mp4", "b-0.mp4"])), "is of 'b-0.mp4'"),
        (json.dumps(result_of("scene", ["a-0.mp4", "a-1.mp4"], float("nan"))), "has score nan"),
    ],
)
def test_results_that_are_not_whole_are_refused(tmp_path, content, message):
    path = tmp_path / "results_x_eval_results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"results_x_eval_results.json' .*{message}.*evaluate again") as caught:
        read_result(path, "scene", ["a-0.mp4", "a-1.mp4"])
    assert "\n" not in str(caught.value)


def test_a_failing_process_is_one_line_and_a_log(environment, full_info, videos, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(OSError, match="vbench failed on 'color' with status 1: CUDA is not available; see '.*log.txt'"):
        run_dimension(environment_python(environment), full_info, videos, output, "color")
    assert "loading" in (output / "log.txt").read_text()


def test_the_command(environment, full_info, videos, tmp_path, script, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vbench.py").write_text("raise SystemExit(3)")  # must not be imported as the package
    out = tmp_path / "out"
    command = [str(videos), "--env", str(environment), "--out", str(out)]
    command += ["--dimensions", "object_class", "dynamic_degree"]
    assert script(command) == 0
    shown = capsys.readouterr().out
    assert "object_class: 50.00 %" in shown and "dynamic_degree: 100.00 %" in shown
    assert "no total: 14 of 16" in shown
    scores = {"object_class": 0.5, "dynamic_degree": 1.0}
    assert json.loads((out / "scores.json").read_text()) == {"dimensions": scores}
    # Finished results are read without the environment.
    command[2] = str(tmp_path / "gone")
    command += ["--full-info", str(full_info)]
    assert script(command) == 0
    assert "videos …" not in capsys.readouterr().out
    # Unless a video was made again, or other videos are named.
    later = time.time() + 5
    os.utime(videos / "a cat-2.mp4", (later, later))
    assert script(command) == 2
    assert "gone' holds no vbench" in capsys.readouterr().err
    command[0] = str(shutil.copytree(videos, tmp_path / "others"))
    assert script(command) == 2
    assert "is for the videos in" in capsys.readouterr().err

    assert script(["--list-prompts", "--env", str(environment)]) == 0
    assert capsys.readouterr().out == "a cat\na red car: 3.5, fast\n"


def test_models_are_fetched_to_a_folder(environment, script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "models"))
    assert script(["--fetch", "--env", str(environment), "--dimensions", "scene", "human_action"]) == 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["human_action", "scene"]
    assert script(["--fetch", "--env", str(environment), "--dimensions", "color"]) == 2
    assert "vbench could not fetch its models (status 1)" in capsys.readouterr().err


def test_bad_commands_are_one_line(environment, videos, tmp_path, script, capsys):
    for command, message in {
        ("--env", str(environment)): "expected the folder of videos",
        (str(videos), "--env", str(tmp_path / "no")): "holds no vbench; create it with: bash scripts/vbench_env.sh",
        (str(tmp_path / "no"), "--env", str(environment)): "does not exist; make the videos first",
        (
            str(videos),
            "--env",
            str(environment),
            "--dimensions",
            "colour",
        ): "unknown dimension 'colour'; expected one of",
        (str(videos), "--env", str(environment), "--full-info", "no.json"): "'no.json' does not exist",
        (str(videos), "--env", str(environment), "--dimensions", "color"): "vbench failed on 'color'",
    }.items():
        assert script([*command, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
