"""Config files: bases, merging and replacing, other formats, and harmful or invalid files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opensora_adacache.config.file import read_file
from opensora_adacache.errors.family import AdaCacheError

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = """
seed = 1
_step = 3
cache = dict(type="AdaCache", codebook={0.03: 12, 1.0: 3}, metric="l2", moreg=dict(steps=(1, 8), power=8))
model = dict(from_pretrained="a/b", qk_norm=True, codebook={0.03: 12, 1.0: 3})
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.py").write_text(BASE)

    def write_file(text: str | bytes, name: str = "config.py") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_file


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.py")), ids=lambda path: str(path.relative_to(CONFIGS).with_suffix(""))
)
def test_ready_configs_are_read_as_mmengine_reads_them(path):
    mmengine = pytest.importorskip("mmengine.config")
    values = mmengine.Config.fromfile(path).to_dict()
    assert read_file(path) == {key: value for key, value in values.items() if not key.startswith("_")}


def test_a_codebook_replaces_that_of_the_base(write):
    config = read_file(write("_base_ = ['base.py']\ncache = dict(codebook={0.6: 4, 1.0: 1})"))
    assert config["cache"]["codebook"] == {0.6: 4, 1.0: 1}
    assert config["cache"]["metric"] == "l2" and config["cache"]["moreg"]["power"] == 8
    config = read_file(write("_base_ = 'base.py'\nmodel = dict(codebook={0.5: 2})"))
    assert config["model"] == {"from_pretrained": "a/b", "qk_norm": True, "codebook": {0.5: 2}}


def test_a_mapping_with_numbers_as_keys_is_a_value_wherever_it_stands(write):
    write("settings = dict(a=dict(plan={1: 2, 3: 4}, title='x'))", "deep.py")
    config = read_file(write("_base_ = 'deep.py'\nsettings = dict(a=dict(plan={5: 6}))"))
    assert config["settings"] == {"a": {"plan": {5: 6}, "title": "x"}}


def test_a_codebook_in_json_and_yaml_replaces_too(write):
    write(json.dumps({"cache": {"codebook": {"0.1": 4, "1.0": 2}}}), "base.json")
    config = read_file(write(json.dumps({"_base_": "base.json", "cache": {"codebook": {"1.0": 1}}}), "child.json"))
    assert config["cache"]["codebook"] == {"1.0": 1}
    config = read_file(write("_base_: [base.py]\ncache:\n  codebook: {0.7: 5}\n", "child.yaml"))
    assert config["cache"]["codebook"] == {0.7: 5} and config["seed"] == 1


def test_sections_merge_and_delete_takes_them_as_they_are(write):
    config = read_file(write("_base_ = ['base.py']\ncache = dict(moreg=dict(power=2))"))
    assert config["cache"]["moreg"] == {"steps": (1, 8), "power": 2}
    config = read_file(write("_base_ = ['base.py']\ncache = dict(_delete_=True, type='Static', interval=2)"))
    assert config["cache"] == {"type": "Static", "interval": 2}


def test_delete_counts_at_any_depth_and_false_changes_nothing(write):
    text = "_base_ = 'base.py'\ncache = dict(_delete_=True, type='Static', moreg=dict(_delete_=True, power=2))"
    assert read_file(write(text))["cache"] == {"type": "Static", "moreg": {"power": 2}}
    config = read_file(write("_base_ = 'base.py'\ncache = dict(moreg=dict(_delete_=True, power=2))"))
    assert config["cache"]["moreg"] == {"power": 2} and config["cache"]["metric"] == "l2"
    config = read_file(write("_base_ = 'base.py'\nmodel = dict(_delete_=False, qk_norm=None)"))
    assert config["model"] == {"from_pretrained": "a/b", "qk_norm": None, "codebook": {0.03: 12, 1.0: 3}}


def test_numbers_of_yaml(write):
    text = (
        "aspect_ratio: 9:16\nseed: 12\nflow: 1e1\naes: -2.5E-1\nfps: 23.976\ndate: 1e\nname: '1e3'\nscore: !!str 1e3\n"
    )
    assert read_file(write(text, "c.yaml")) == {
        "aspect_ratio": "9:16",
        "seed": 12,
        "flow": 10.0,
        "aes": -0.25,
        "fps": 23.976,
        "date": "1e",
        "name": "1e3",
        "score": "1e3",
    }


def test_merged_keys_of_yaml_are_no_repetition(write):
    text = "image: &a\n  seed: 1\n  fps: 8\nscheduler:\n  <<: *a\n  seed: 2\nvae:\n  <<: *a\n  fps: 9\n"
    config = read_file(write(text, "c.yaml"))
    assert config["scheduler"] == {"seed": 2, "fps": 8} and config["vae"] == {"seed": 1, "fps": 9}


def test_values_of_the_base_can_be_used(write):
    config = read_file(write("_base_ = ['base.py']\nfps = _base_._step * 4\ncache = dict(_base_.cache, metric='l1')"))
    assert config["fps"] == 12 and config["cache"]["metric"] == "l1" and "_step" not in config
    assert read_file(write("_base_: base.py\nfps: {{_base_._step}}\n", "c.yaml"))["fps"] == 3
    assert read_file(write("_base_ = 'base.py'\nfps = {{ _base_._step }}\n"))["fps"] == 3


def test_variables_of_file_and_environment(write, monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_SEED", "7")
    text = "save_dir = '{{ fileDirname }}/{{ fileBasenameNoExtension }}'\nseed = {{$SOME_SEED:1}}\nfps = {{$NO_FPS:24}}"
    assert read_file(write(text)) == {"save_dir": f"{tmp_path}/config", "seed": 7, "fps": 24}
    with pytest.raises(AdaCacheError, match="NO_FPS is not set"):
        read_file(write("fps = {{$NO_FPS:}}"))


@pytest.mark.parametrize("name", ["config.py", "config.json", "config.yaml"])
def test_a_byte_order_mark_is_no_part_of_the_config(write, name):
    text = {"config.py": "seed = 3", "config.json": '{"seed": 3}', "config.yaml": "seed: 3"}[name]
    assert read_file(write(b"\xef\xbb\xbf" + text.encode(), name)) == {"seed": 3}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch harm']",
        "!!python/object/apply:subprocess.check_call [['touch', 'harm']]",
        "!!python/object/new:os.system ['touch harm']",
        "!!python/name:os.system",
        "!!python/module:os",
    ],
)
def test_yaml_is_data_and_runs_nothing(write, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdaCacheError, match="YAML configs hold plain data only") as error:
        read_file(write(f"seed: 1\nmodel: {tag}\n", "config.yaml"))
    assert "\n" not in str(error.value) and not (tmp_path / "harm").exists()
    with pytest.raises(AdaCacheError, match="YAML configs hold plain data only"):
        read_file(write("_base_ = ['config.yaml']"))
    assert not (tmp_path / "harm").exists()


def test_aliases_of_yaml_do_not_fill_the_memory(write):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    config = read_file(write("\n".join(lines), "config.yaml"))
    assert config["a2"] == [[["x", "x"], ["x", "x"]]] * 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.py", "import sys\nsys.exit(0)", "ends the program itself"),
        ("config.py", "exit()", "ends the program itself|'exit' is not defined"),
        ("config.py", "raise SystemExit('x')", "ends the program itself"),
        ("config.py", "seed = 1 / 0", "cannot be read: division by zero"),
        ("config.py", "from ._base_ import x", "imports another config; name it in _base_"),
        ("config.py", "_base_ = ['config.py']", "config.py' is its own _base_"),
        ("config.py", "_base_ = 5", "must be a path or a list of paths, got 5"),
        ("config.py", "_base_ = nothing", "cannot be read: name 'nothing' is not defined"),
        ("config.py", "_base_ = 'base.py'\nx = _base_.gone", "the base has no 'gone'"),
        ("config.py", "_base_ = ['base.py', 'base.py']", "two of the _base_ files .* set _step, cache, model, seed"),
        ("config.py", "a = []\na.append(a)", "nested too deeply"),
        ("config.py", "x" * 3 + "=" + "(" * 5000, "not valid Python|nested too deeply"),
        ("config.py", b"seed = 1\xff", "is not UTF-8 text"),
        ("config.py", b"\x89PNG\r\n\x00\x1a\n", "is not UTF-8 text"),
        ("config.py", "seed = '\0'", "is not valid Python"),
        ("config.json", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("config.json", '{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("config.yaml", "a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("config.json", "[1]", r"must hold keys and values, got \[1\]"),
        ("config.json", "{", "cannot be read: Expecting"),
        ("config.yaml", "", "must hold keys and values, got None"),
        ("config.yaml", "a: [", "not valid YAML"),
        ("config.yaml", "5: 6", "has the key 5; expected names"),
        ("config.yaml", "_base_: base.py\na: {{_base_.gone}}", "asks for .*which its _base_ does not have"),
        ("config.json", '{"seed": 1, "seed": 2}', "the key 'seed' occurs twice: leave one of them out"),
        ("config.json", '{"cache": {"codebook": {"0.1": 4, "0.1": 2}}}', "the key '0.1' occurs twice"),
        ("config.yaml", "seed: 1\nfps: 8\nseed: 2", "the key 'seed' occurs twice"),
        ("config.yaml", "cache:\n  codebook: {0.1: 4, 0.10: 2}", "the key 0.1 occurs twice"),
        ("config.py", "a = 1\ncache = dict(codebook={0.1: 4, -1: 3, 0.1: 2})", "the key 0.1 occurs .*, near line 2"),
        ("config.yaml", "date: !!timestamp x", "a value does not fit its tag"),
        ("config.yaml", "date: !!bool x", "a value does not fit its tag"),
        ("config.py", "_base_: list = ['base.py']", "sets _base_ where it is not read, near line 1; write _base_ ="),
        ("config.py", "if True:\n    _base_ = ['base.py']", "sets _base_ where it is not read, near line 2"),
        ("config.py", "_base_ = []\n_base_ += ['base.py']", "sets _base_ where it is not read, near line 2"),
        ("config.py", "_base_ = 'base.py'\n_base_ = []", "sets _base_ where it is not read, near line 1"),
        ("config.txt", "seed = 1", "is a file ending in '.txt'; expected a file ending in .py"),
    ],
)
def test_what_cannot_be_read_is_one_line(write, name, text, message):
    with pytest.raises(AdaCacheError, match=message) as error:
        read_file(write(text, name))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(AdaCacheError, match="is a folder; expected a file"):
        read_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone.py' does not exist; 'opensora-adacache configs' lists"):
        read_file(tmp_path / "gone.py")


TOKENS = [
    "_base_",
    "=",
    "'base.py'",
    "dict(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "1e999",
    "-",
    "None",
    "cache",
    ":",
    "a",
    "\n",
    "\t",
]


def read_or_refuse(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    try:
        assert all(isinstance(key, str) for key in read_file(folder / name))
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1


@given(st.one_of(st.text(), st.lists(st.sampled_from(TOKENS)).map(" ".join)).map(str.encode) | st.binary())
@example(b"{{$GONE:}}")
def test_any_data_gives_values_or_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("data")
    (folder / "base.py").write_text(BASE)
    read_or_refuse(folder, "config.json", content)
    read_or_refuse(folder, "config.yaml", content)
    assert sorted(os.listdir(folder)) == ["base.py", "config.json", "config.yaml"]


@given(st.lists(st.sampled_from(TOKENS)).map(" ".join))
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_any_program_of_these_words_gives_values_or_one_line(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("program")
    (folder / "base.py").write_text(BASE)
    read_or_refuse(folder, "config.py", text.encode())
