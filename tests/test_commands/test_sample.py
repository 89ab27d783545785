"""The command line: flags, exit status, one-line errors, Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opensora_adacache.commands.sample import build_parser, collect_overrides, main
from opensora_adacache.media.reading import read_video

ROOT = Path(__file__).parents[2]
# of the reference, each of which overrides the config
FLAGS = """seed ckpt-path batch-size flash-attn layernorm-kernel resolution dtype save-dir logdate-dir sample-name
start-index end-index num-sample prompt-as-path verbose prompt-path prompt num-frames fps save-fps image-size
frame-interval aspect-ratio num-sampling-steps cfg-scale loop condition-frame-length reference-path mask-strategy
aes flow camera-motion llm-refine watermark outputs data-path prompt-generator""".split()


@pytest.fixture
def config(tmp_path, tiny_config) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)
    return str(path)


def overrides(*arguments):
    return collect_overrides(build_parser().parse_args(["config.py", *arguments]))


def test_help_is_quick_and_names_every_flag():
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run(
        [sys.executable, "-c", "from opensora_adacache.commands.sample import main; main(['--help'])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, so that other work on the machine does not matter.
    assert end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime < 1
    assert not [flag for flag in (*FLAGS, "overwrite", "cfg-options") if f"--{flag} " not in shown.replace("\n", " ")]


def test_help_does_not_import_torch():
    code = "import sys; from opensora_adacache.commands.sample import build_parser; build_parser().format_help(); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_flags_become_keys():
    assert overrides() == {}
    assert overrides("--cfg-scale", "4", "--flash-attn", "False", "--ckpt-path", "a/b") == {
        "scheduler.cfg_scale": 4.0,
        "model.enable_flash_attn": False,
        "model.from_pretrained": "a/b",
    }
    assert overrides("--image-size", "64", "96", "--prompt", "a", "b", "--mask-strategy", "") == {
        "image_size": [64, 96],
        "prompt": ["a", "b"],
        "mask_strategy": [""],
    }
    assert overrides("--executor", "ray", "--workers", "4", "--ray-address", "head:6379") == {
        "executor.type": "ray",
        "executor.workers": 4,
        "executor.address": "head:6379",
    }
    assert overrides("--prompt-as-path", "--overwrite") == {"prompt_as_path": True, "overwrite": True}


def test_cfg_options_reach_any_key_and_flags_count_over_them():
    options = ["--cfg-options", "seed=3", "cache.codebook={0.1:4,1.0:1}", "vae.micro_batch_size=2"]
    assert overrides(*options, "--seed", "5") == {
        "seed": 5,
        "cache.codebook": {0.1: 4, 1.0: 1},
        "vae.micro_batch_size": 2,
    }


def test_a_terminal_gets_progress_bars(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main([config, "--prompt", "a red circle", "--save-dir", str(tmp_path / "out"), "--verbose", "1"]) == 0
    shown = capsys.readouterr()
    assert "videos" in shown.err and "1/1 in 0:" in shown.err
    assert "sample_0000.mp4: computed every step" in shown.out  # lines for a pipe do not go to the terminal


def test_a_run_says_where_the_videos_are(config, tmp_path, capsys):
    arguments = [config, "--prompt", "a red circle", "--save-dir", str(tmp_path / "out"), "--verbose", "2"]
    options = ["--cfg-options", "cache.type=AdaCache", "cache.codebook={0.1:4,1.0:1}"]
    assert main([*arguments, *options]) == 0
    shown = capsys.readouterr()
    assert "sample_0000.mp4: computed " in shown.out and "of 8 steps [##" in shown.out
    assert "  a red circle\n" in shown.out and f"1 video in '{tmp_path}/out'" in shown.out
    assert "videos" not in shown.err  # no progress bars in a log file
    assert main([*arguments, *options]) == 0
    assert "1 was there already" in capsys.readouterr().out


@pytest.fixture
def broken(tmp_path, tiny_checkpoints) -> Path:
    """A folder of broken files."""
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.png").write_text("no picture")
    shutil.copytree(tiny_checkpoints / "transformer", tmp_path / "corrupt")
    weights = tmp_path / "corrupt" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return tmp_path


BAD_INPUT = {
    "unknown key": (["--cfg-options", "sede=1"], "did you mean 'seed'"),
    "falling thresholds": (
        ["--cfg-options", "cache.codebook={0.2:4,0.1:1}"],
        "codebook thresholds must rise",
    ),
    "MoReg window": (
        ["--cfg-options", "cache.codebook={1.0:1}", "cache.moreg.steps=(2,9)"],
        "MoReg steps must lie in 1..8",
    ),
    "cache_loc": (["--cfg-options", "cache.codebook={1.0:1}", "cache.cache_loc=[4]"], "layers of 0..3, got 4"),
    "missing reference": (["--reference-path", "GONE.png", "--mask-strategy", "0"], "gone.png' of prompt 0"),
    "missing image": (["--reference-path", "GONE", "--mask-strategy", "0"], "run_sample_image.sh"),
    "unreadable reference": (["--reference-path", "HERE/bad.png", "--mask-strategy", "0"], "cannot be read"),
    "empty prompt file": (["--prompt-path", "HERE/empty.txt"], "is empty"),
    "no prompt file": (["--prompt-path", "GONE.txt"], "does not exist"),
    "bad JSON": (["--prompt", "a {reference_path: b}"], "bad JSON in prompt"),
    "mask strategy": (["--mask-strategy", "0,x"], "mask strategy group '0,x' has reference 'x'"),
    "prompts twice": (["--prompt", "a", "--prompt-path", "b.txt"], "prompt and prompt_path are both given"),
    "sizes twice": (
        ["--image-size", "64", "64", "--cfg-options", "resolution=144p"],
        "image_size and resolution are both given, and resolution would have no effect",
    ),
    "no prompts": (["--cfg-options", "prompt=[]"], "prompt is an empty list"),
    "two frames in an image": (["--image", "--num-frames", "2"], "an image has one frame, but num_frames is '2'"),
    "size": (["--image-size", "64", "100"], "the width must be a multiple of 8, got 100"),
    "huge size": (["--image-size", "6400000000", "64"], "image_size must have 8 to 8192 pixels each way"),
    "huge pixels": (
        ["--image-size", "8000", "8000"],
        "17 x 8000 x 8000 (frames, height, width) are more pixels than any",
    ),
    "huge speed": (["--save-fps", "1000000000000"], "save_fps must lie in 0.01..1000, got 1000000000000"),
    "no speed": (["--save-fps", "nan"], "save_fps must be a whole number or a finite number, got nan"),
    "no home": (["--reference-path", "~nouser/x.png", "--mask-strategy", "0"], "reference '~nouser/x.png' of prompt 0"),
    "URL": (["--reference-path", "https://host//a.png", "--mask-strategy", "0"], "'https://host//a.png' is a URL"),
    "no value": (["--cfg-options", "seed"], "cannot read the option 'seed'; write KEY=VALUE"),
    "blanks": (["--cfg-options", "seed", "=", "5"], "without spaces around the ="),
    "bracket": (["--cfg-options", "image_size=[64,64"], "a bracket is not closed"),
    "a section": (["--cfg-options", "model=5"], "the config needs a section model=dict(…), got 5"),
    "no section": (["--cfg-options", "model=None", "--num-sampling-steps", "8"], "needs a section model=dict(…)"),
    "text in MoReg": (
        ["--cfg-options", "cache.codebook={1.0:1}", "cache.moreg.center=x"],
        "cache.moreg.center must be a finite number, got 'x'",
    ),
    "inf in MoReg": (
        ["--cfg-options", "cache.codebook={1.0:1}", "cache.moreg.power=1e999"],
        "cache.moreg.power must be a finite number, got inf",
    ),
    "sample name": (["--sample-name", "../x"], "sample_name must be the start of a file name"),
    "bytes": (["--prompt", "a \udcff"], "must be valid Unicode text"),
    "no folder": (["--save-dir", "HERE/file/out"], "cannot write"),
    "corrupt checkpoint": (["--ckpt-path", "HERE/corrupt"], "corrupt or truncated"),
    "no checkpoint": (["--ckpt-path", "GONE/x/y"], "model.from_pretrained"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_gets_one_line_and_status_2(config, broken, capsys, name):
    arguments, message = BAD_INPUT[name]
    defaults = ["--save-dir", f"{broken}/out"]
    if not any(text in arguments for text in ("--prompt-path", "prompt=[]")):
        defaults += ["--prompt", "a red circle"]
    arguments = [text.replace("HERE", str(broken)).replace("GONE", f"{broken}/gone") for text in arguments]
    assert main([config, *defaults, *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1 and message in shown


@pytest.mark.parametrize("prompt", ["a", 'a {"mask_strategy": "0"}'])
def test_a_reference_that_no_mask_uses_is_named(config, broken, capsys, prompt):
    """Given on the command line; a folder that the config names waits for its images."""
    arguments = [config, "--save-dir", f"{broken}/file/out", "--prompt", prompt]  # where nothing can be written
    for flags in (["--cfg-defaults", f"reference_path={broken}/bad.png"], ["--reference-path", ""]):
        assert main([*arguments, *flags]) == 2
        assert "reference_path is not used" not in capsys.readouterr().err
    assert main([*arguments, "--reference-path", f"{broken}/bad.png"]) == 2
    assert ("warning: reference_path is not used: the mask" in capsys.readouterr().err) == (prompt == "a")


def test_flags_that_change_nothing_are_named(config, broken, capsys):
    arguments = [config, "--save-dir", f"{broken}/file/out", "--prompt", "a", "--num-sampling-steps", "4"]

    def told(*flags: str) -> str:
        assert main([*arguments, *flags]) == 2
        return "".join(line for line in capsys.readouterr().err.splitlines(True) if line.startswith("warning: "))

    assert told("--preview", "4") == (
        "warning: no preview is written: videos have 4 steps, and a preview every 4 steps was asked for\n"
    )
    assert told("--preview", "3") == told("--preview", "7", "--loop", "2") == ""
    single = "has no effect on a single clip; --loop N makes videos of N clips\n"
    assert told("--condition-frame-length", "10") == f"warning: condition_frame_length {single}"
    assert told("--cfg-options", "condition_frame_edit=0.5") == f"warning: condition_frame_edit {single}"
    assert told("--cfg-defaults", "condition_frame_length=10") == ""
    assert told("--condition-frame-length", "5", "--loop", "2") == ""


def test_flags_of_the_references_training_are_named(config, tmp_path, capsys):
    arguments = [config, "--prompt", "a", "--save-dir", str(tmp_path / "out"), "--outputs", "x", "--data-path", "y"]
    assert main([*arguments, "--prompt-generator", "z", "--end-index", "0"]) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines == [
        f"warning: --{name} has no effect on sampling" for name in ("outputs", "data-path", "prompt-generator")
    ]
    assert last.startswith("error: no prompt left")


@pytest.mark.parametrize("arguments", [["--seed", "x"], ["--sede", "5"], ["--image-size", "64"], ["--num-frames"]])
def test_flags_that_cannot_be_read_are_one_line(config, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main([config, *arguments])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1


def test_prompts_keep_their_commas_and_unused_loops_are_named(config, tmp_path, capsys):
    folder = tmp_path / "out"
    options = [
        "--cfg-options",
        "prompt=|0| a red circle, moving left |5| a blue square",
        f"save_dir={folder}",
        "loop=1",
    ]
    assert main([config, *options, "--num-sampling-steps", "1", "--save-fps", "7.5"]) == 0
    assert sorted(path.name for path in folder.glob("*.mp4")) == ["sample_0000.mp4"]
    assert json.loads((folder / "sample_0000.json").read_text())["settings"]["texts"] == ["a red circle, moving left"]
    shown = capsys.readouterr().err
    assert shown.count("warning: ") == shown.count("\n") == 1 and "has a text for loop |5|" in shown


def test_missing_config(capsys):
    assert main(["gone.py"]) == 2
    assert capsys.readouterr().err.startswith("error: config 'gone.py' does not exist")


def test_no_network_for_a_hub_name(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments = ["--prompt", "a", "--save-dir", str(tmp_path / "out"), "--ckpt-path", "nobody/nothing"]
    assert main([config, *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "nobody/nothing" in shown and "local folder" in shown


def test_a_full_disk_loses_nothing(config, tmp_path, capsys):
    folder = tmp_path / "out"
    arguments = [config, "--save-dir", str(folder), "--prompt", "a red circle", "a blue square"]
    assert main([*arguments, "--end-index", "1"]) == 0
    whole = (folder / "sample_0000.mp4").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        assert main(arguments) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    shown = capsys.readouterr().err
    assert shown.startswith("error: cannot write") and shown.count("\n") == 1
    assert (folder / "sample_0000.mp4").read_bytes() == whole
    assert not [path.name for path in folder.iterdir() if path.suffix in (".part", ".tmp")]
    assert json.loads((folder / "run.json").read_text())["num_finished"] == 1
    assert main(arguments) == 0
    assert (folder / "sample_0001.mp4").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_finished_videos_and_the_run_resumes(config, tmp_path, number):
    folder = tmp_path / "out"
    prompts = [f"a {colour} circle" for colour in ("red", "blue", "green", "black")]
    arguments = [config, "--save-dir", str(folder), "--num-sampling-steps", "40", "--prompt", *prompts]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "inference.py"), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # a shell that runs the tests in the background makes its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 600
    while not (folder / "sample_0000.mp4").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 130
    assert shown.splitlines()[-1].startswith("interrupted: ") and "run the same command again" in shown
    assert "Traceback" not in shown
    finished = {path: path.read_bytes() for path in folder.glob("*.mp4")}
    assert 1 <= len(finished) < len(prompts)
    assert json.loads((folder / "run.json").read_text())["state"] == "interrupted"

    assert main(arguments) == 0
    assert len(list(folder.glob("*.mp4"))) == len(prompts)
    for path, content in finished.items():
        assert path.read_bytes() == content
        assert read_video(path).shape == (3, 17, 64, 64)


@pytest.mark.parametrize("module", ["argparse", "opensora_adacache", "torch"])
def test_an_interrupt_before_anything_is_loaded_is_one_line(config, tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    process = subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "inference.py"),
            config,
            "--prompt",
            "a",
            "--save-dir",
            str(tmp_path / "out"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    told = "interrupted: 0 of 1 videos are finished" if module == "torch" else "interrupted before anything was made"
    assert process.returncode == 130 and process.stderr.startswith(told) and process.stderr.count("\n") == 1


def read_script(name: str, *arguments: str, folder: Path) -> list[str]:
    """Return the arguments that a script passes to scripts/inference.py."""
    show = folder / "show"
    show.write_text('#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done\n')
    show.chmod(0o755)
    command = ["bash", str(ROOT / name), *arguments]
    environment = {**os.environ, "PYTHON": str(show)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    program, *rest = shown.splitlines()
    assert program == str(ROOT / "scripts" / "inference.py")
    return rest


@pytest.mark.parametrize("name", ["run_sample_video.sh", "run_sample_image.sh"])
def test_scripts_ask_for_a_config(name):
    done = subprocess.run(["bash", str(ROOT / name)], capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stderr


def test_scripts_pair_images_and_videos(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("two.txt").write_text("a red circle\na blue square\n")
    flags = [config, "--prompt-path", "two.txt", "--mask-strategy", "0"]
    assert main(read_script("run_sample_image.sh", *flags, folder=tmp_path)) == 0
    assert Path("samples/images/two/sample_0001.png").exists()
    assert main(read_script("run_sample_video.sh", *flags, folder=tmp_path)) == 0
    assert Path("samples/videos/two/tiny/sample_0001.mp4").exists()


def test_scripts_set_paths_only(config, tmp_path):
    for name in ("run_sample_video.sh", "run_sample_image.sh"):
        options = build_parser().parse_args(read_script(name, config, folder=tmp_path))
        assert all(option.partition("=")[0].endswith("_path") for option in options.cfg_defaults)
        assert collect_overrides(options) == {}
