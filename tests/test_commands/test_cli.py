"""The command of the package: names, help, configs by name, the check-up of a machine."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.commands import sample
from opensora_adacache.commands.cli import COMMANDS, main, module_of
from opensora_adacache.commands.main import typed_command
from opensora_adacache.config import load_config
from opensora_adacache.config.paths import SHIPPED, find_config, shipped_configs


@pytest.fixture(autouse=True)
def typed(monkeypatch):
    """The command sets the name of the program."""
    monkeypatch.setattr(sys, "argv", ["opensora-adacache"])


def output_of(arguments, capsys):
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: opensora-adacache {name} ") and "`" not in out
    assert ("--image " in out) == (name == "sample")  # `image` is a command of its own


def test_help_lists_every_command(capsys):
    out = output_of([], capsys)
    assert out == output_of(["--help"], capsys)
    assert all(f"  {name} " in out for name in COMMANDS)


def test_a_command_that_does_not_exist(capsys):
    assert main(["compair", "x"]) == 2
    assert capsys.readouterr().err == "error: no command 'compair', did you mean 'compare'?; --help lists them\n"


def test_help_imports_no_torch():
    """It appears at once."""
    code = "; ".join(
        [
            "import sys",
            "from opensora_adacache.commands.cli import module_of",
            *(f"module_of('{name}').build_parser()" for name in COMMANDS),
            "print({'torch', 'diffusers', 'transformers', 'rich'} & set(sys.modules))",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_command_is_recorded_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/opensora-adacache compare", "a.py"])
    assert typed_command("scripts/compare.py", None) == "opensora-adacache compare a.py"
    monkeypatch.setattr(sys, "argv", ["scripts/compare.py", "a.py"])
    assert typed_command("scripts/compare.py", None) == "python scripts/compare.py a.py"
    arguments = ["a.py", "--out", "it's here", "--remake", "static-*"]
    assert shlex.split(typed_command("scripts/compare.py", arguments))[2:] == arguments


def test_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()  # a folder of that name is no config
    names = output_of(["configs"], capsys).split()
    assert names == shipped_configs() and "scenes/sample_adacache" in names
    assert all(find_config(name) == SHIPPED / "configs" / f"{name}.py" for name in names)
    assert load_config("scenes/sample").path == SHIPPED / "configs/scenes/sample.py"
    assert load_comparison("scenes/compare").title == "Caching policies on the bundled model"
    (tmp_path / "sample_adacache").write_text("", encoding="utf-8")
    assert str(find_config("sample_adacache")) == "sample_adacache"  # what is here comes first


def test_configs_are_copied_once(tmp_path, capsys):
    folder = tmp_path / "mine"
    assert "opensora-adacache sample configs/" in output_of(["configs", "--copy", str(folder)], capsys)
    assert load_config(folder / "configs/scenes/sample_adacache.py").cache is not None
    assert (folder / "assets/texts/gallery.txt").is_file() and not list(folder.rglob("*.mp4"))
    assert main(["configs", "--copy", str(folder)]) == 2
    assert capsys.readouterr().err.startswith(f"error: '{folder / 'configs'}' exists already")
    file = folder / "assets/texts/gallery.txt"
    assert main(["configs", "--copy", str(file)]) == 2
    assert capsys.readouterr().err == f"error: cannot copy to '{file}': Not a directory; name another DIR\n"


def test_completion_names_the_package_that_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'opensora-adacache[completion]'" in capsys.readouterr().err


def test_images_are_made_by_the_same_code(monkeypatch):
    made = []
    monkeypatch.setattr(sample, "_run", made.append)
    assert main(["image", "scenes/sample"]) == main(["sample", "--image", "scenes/sample"]) == 0
    assert vars(made[0]) == vars(made[1]) and made[0].image


def test_the_check_up_needs_no_gpu_and_no_weights(tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("model = 1\n", encoding="utf-8")
    (tmp_path / "long.py").write_text("nokey = 1\n", encoding="utf-8")
    # The exit status tells a script that a config it named cannot be read.
    assert main(["doctor", "scenes/sample", "wan/sample", "gone", str(broken), str(tmp_path / "long.py")]) == 2
    out = capsys.readouterr().out
    rows = {cells[1].strip(): cells for line in out.splitlines() if len(cells := line.split("|")) > 2}
    assert {"torch", "memory", "auto", "xformers"} <= rows.keys()
    assert main(["doctor", "scenes/sample"]) == 0
    assert "15.3 MB" in next(cells[3] for name, cells in rows.items() if name.endswith("weights/transformer"))
    assert "missing" in rows["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"][3]
    assert "config 'gone' does not exist" in out and "the config needs a section" in out
    assert not any(line.isspace() for line in out.splitlines())
    assert any("unknown key 'nokey'" in line and "mograd_mul" in line for line in out.splitlines())  # in one row


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_flags(shell, capsys):
    pytest.importorskip("shtab")
    out = output_of(["completion", shell], capsys)
    assert all(name in out for name in COMMANDS) and "--num-sampling-steps" in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_scripts_are_the_same_code():
    for name in ("compare", "calibrate", "plan", "replay", "report"):
        script = (SHIPPED / "scripts" / f"{name}.py").read_text(encoding="utf-8")
        assert f"from opensora_adacache.commands.{name} import main" in script
        assert callable(module_of(name).main)
