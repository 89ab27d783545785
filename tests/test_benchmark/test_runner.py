"""The benchmark runner on small checkpoints: rows, resuming, refused input."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.benchmark.description import read_comparison
from opensora_adacache.benchmark.description import write_comparison as write_description
from opensora_adacache.benchmark.making import RowMaking
from opensora_adacache.benchmark.results import append_result, read_results, write_results
from opensora_adacache.benchmark.runner import ComparisonRun
from opensora_adacache.caching.registry import COMMAND_NAMES
from opensora_adacache.commands.report import main as report
from opensora_adacache.generation.lock import FolderLock
from opensora_adacache.scenes.prompts import heldout_prompts

ROOT = Path(__file__).parents[2]
SETTINGS = """
settings = {
    "every-2": dict(cache=dict(type="Static", interval=2)),
    "all": dict(cache=dict(type="AdaCache", codebook={1.0: 1})),
    "line": dict(cache=dict(type="AdaCache", codebook={1e9: 2, 2e9: 1}, forecast=1)),
    "best": dict(oracle="video", computed_steps=5),
    "best-split": dict(oracle="budget", computed_steps=5),
}
"""


@pytest.fixture(scope="module")
def compare():
    return runpy.run_path(str(ROOT / "scripts" / "compare.py"))["main"]


def test_list_of_policies(compare, capsys):
    assert compare(["--list"]) == 0
    names = "adacache forecastcache pab fastercache tgate delta-dit foresight teacache fbcache dicache bwcache magcache"
    names += " easycache taylorseer hicache foca dmd spectrum tafc seacache dpcache lemica navicache sencache"
    names += " budcache l2p meancache gcache recache unshifted-ertacache static"
    assert capsys.readouterr().out.split() == names.split() == list(COMMAND_NAMES)


def test_rows_and_resuming(compare, write_comparison, tmp_path, capsys):
    config, out = write_comparison(SETTINGS), tmp_path / "out"
    assert compare([str(config), "--limit", "1", "--out", str(out)]) == 0
    first = read_results(out / "results.jsonl")
    assert sorted(row.setting for row in first) == ["all", "baseline", "best", "best-split", "every-2", "line"]
    by_name = {row.setting: row for row in first}
    assert by_name["baseline"].psnr is None and by_name["all"].psnr == 100 and by_name["every-2"].psnr < 100
    assert by_name["every-2"].schedule == "#.#.#.##" and by_name["best"].computed_steps == 5
    assert by_name["line"].policy == "adacache-forecast"
    assert by_name["all"].policy == "adacache" and by_name["best"].policy == "oracle-video"
    assert by_name["all"].tflops == pytest.approx(by_name["baseline"].tflops)
    assert 0.4 < by_name["every-2"].tflops / by_name["baseline"].tflops < 0.7
    assert by_name["best"].tflops == pytest.approx(by_name["every-2"].tflops)  # both take five computed steps
    assert [by_name[name].work for name in ("baseline", "all", "best")] == [8, 8, 5]
    for name in ("table.md", "table.csv", "table.tex", "index.html", by_name["best"].video):
        assert (out / name).stat().st_size > 0
    # existing results are unchanged; the second prompt is added
    assert compare([str(config), "--out", str(out)]) == 0
    rows = read_results(out / "results.jsonl")
    assert len(rows) == 12 and rows[:6] == first
    assert "6 videos made" in capsys.readouterr().out


def test_ctrl_c_leaves_what_is_made(compare, write_comparison, tmp_path, monkeypatch, capsys):
    """After Ctrl-C during the second row, the first row stays and the same command makes the rest."""
    from opensora_adacache.benchmark import worker as comparison

    calls, real = [], comparison.flicker

    def interrupt_second(frames):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(frames)

    config, out = write_comparison("settings = dict(every2=dict(cache=dict(type='Static')))\n"), tmp_path / "out"
    monkeypatch.setattr(comparison, "flicker", interrupt_second)
    assert compare([str(config), "--limit", "1", "--out", str(out)]) == 130
    assert "interrupted: 1 of 2 missing videos" in capsys.readouterr().err
    assert compare([str(config), "--limit", "1", "--out", str(out)]) == 0
    assert [row.setting for row in read_results(out / "results.jsonl")] == ["baseline", "every2"]


def test_without_matplotlib_nothing_is_made(compare, write_comparison, tmp_path, monkeypatch, capsys):
    """The report is drawn last, so a package that is missing would be noticed once all videos are made."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert compare([str(write_comparison(SETTINGS)), "--out", str(tmp_path / "out")]) == 2
    error = "error: drawing needs matplotlib: pip install 'opensora-adacache[eval]'\n"
    assert capsys.readouterr().err == error and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_budget_is_spent_exactly(write_comparison, tmp_path):
    run = ComparisonRun(load_comparison(write_comparison(SETTINGS)), tmp_path / "out", None, "test")
    run.run()
    rows = [row for row in read_results(tmp_path / "out" / "results.jsonl") if row.setting == "best-split"]
    assert sum(row.computed_steps for row in rows) == 10


def test_a_folder_with_other_settings(compare, write_comparison, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    run = ComparisonRun(load_comparison(write_comparison(SETTINGS)), out, None, "test")
    write_description(out / "comparison.json", run.describe())
    changed = write_comparison(SETTINGS.replace("interval=2", "interval=3"))
    assert compare([str(changed), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert (
        "holds 'every-2' with different settings (cache.interval was 2 and is 3 now)" in error
        and error.count("\n") == 1
        and "pass --remake every-2" in error
    )


def static(*intervals, keys=""):
    """Settings of a benchmark that keeps no videos."""
    settings = "".join(f'"every-{k}": dict(cache=dict(type="Static", interval={k})), ' for k in intervals)
    return f"keep_videos = False\n{keys}\nsettings = {{{settings}}}\n"


@pytest.fixture
def made(write_comparison, tmp_path, make_row, make_baseline_row):
    """The folder of a benchmark with two settings and one prompt."""
    out = tmp_path / "out"
    run = ComparisonRun(load_comparison(write_comparison(static(2, 3))), out, 1, "test")
    write_description(out / "comparison.json", run.describe())
    values = dict(prompt="a red circle", seed=run.tasks[0].seed, video=None)
    append_result(out / "results.jsonl", make_baseline_row(**values))
    for name in ("every-2", "every-3"):
        append_result(out / "results.jsonl", make_row(setting=name, title=name, **values))
    return out


def test_tables_need_no_videos(made):
    assert report([str(made)]) == 0 and "every-3" in (made / "table.md").read_text()


def test_a_setting_that_the_config_no_longer_has_stays(compare, made, write_comparison, capsys):
    """In the tables, and with its name, so that its rows are not taken for those of other settings."""
    config = write_comparison(static(2))
    assert compare([str(config), "--limit", "1", "--out", str(made)]) == 0
    assert f"also holds videos of every-3, which '{config}' lacks" in capsys.readouterr().out
    record = read_comparison(made / "comparison.json")
    assert [one.name for one in record.settings] == list(record.runs) == ["baseline", "every-2", "every-3"]
    assert "every-3" in (made / "table.md").read_text()
    write_comparison(static(2, 3).replace("interval=3", "interval=4"))
    assert compare([str(config), "--limit", "1", "--out", str(made)]) == 2
    assert "holds 'every-3' with different settings (cache.interval was 3 and is 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (static(3), "names no setting of the benchmark, which has baseline, every-3"),
        (static(2, 3, keys="overrides = dict(seed=77)"), "holds 'baseline' with different settings (seed was "),
        (static(2, keys="metrics = ('pnsr',)"), "unknown metric 'pnsr'"),
    ],
)
def test_no_row_is_forgotten_before_everything_is_checked(compare, made, write_comparison, capsys, text, message):
    before = (made / "results.jsonl").read_bytes()
    assert compare([str(write_comparison(text)), "--out", str(made), "--remake", "every-2"]) == 2
    error = capsys.readouterr().err
    assert message in error and "--remake baseline" not in error and (made / "results.jsonl").read_bytes() == before


def test_settings_are_made_again(compare, made, write_comparison, capsys):
    before = read_results(made / "results.jsonl")
    config = write_comparison(static(2, 3).replace("interval=2", "interval=4"))
    assert compare([str(config), "--limit", "1", "--out", str(made), "--remake", "every-2"]) == 0
    assert "making every-2 again" in capsys.readouterr().out
    after = read_results(made / "results.jsonl")
    assert after[:2] == [before[0], before[2]]
    assert [(row.setting, row.schedule) for row in after[2:]] == [("every-2", "#...#..#")]


def test_prompts_that_have_changed_are_not_taken_for_those_that_were_made(made, write_comparison):
    config = write_comparison(static(2, 3, keys="overrides = dict(prompt=['a green circle'])"))
    with pytest.raises(ValueError, match=r"of another prompt 0 \('a red circle', and 'a green circle' now\); choose"):
        ComparisonRun(load_comparison(config), made, 1, "test")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "metrics = ('psnr',)",
            "holds videos with ssim, and metrics does not name it now; .*, or pass --remake every-2",
        ),
        ("keep_videos = True", "holds videos made with keep_videos=False, and it is True now; choose another --out"),
        ("share_steps = True", "holds videos made with share_steps=False, and it is True now; .* choose another --out"),
    ],
)
def test_videos_that_were_measured_in_another_way_are_not_mixed(made, write_comparison, keys, message):
    with pytest.raises(ValueError, match=message):
        ComparisonRun(load_comparison(write_comparison(static(2, 3, keys=keys))), made, None, "test")


def test_a_smaller_limit_still_counts_the_videos_that_are_there(made, write_comparison, make_baseline_row):
    """The tables are over all of them, and a setting that has fewer is unfinished."""
    comparison = load_comparison(write_comparison(static(2, 3)))
    assert ComparisonRun(comparison, made, 1, "test").describe().num_prompts == 1
    seed = ComparisonRun(comparison, made, None, "test").tasks[1].seed
    append_result(made / "results.jsonl", make_baseline_row(prompt="a blue square", index=1, seed=seed, video=None))
    assert ComparisonRun(comparison, made, 1, "test").describe().num_prompts == 2


def test_another_batch_size_is_told(compare, made, write_comparison, capsys):
    """It may be what the memory asks for, and changes nothing but latencies."""
    record = read_comparison(made / "comparison.json")
    write_description(made / "comparison.json", replace(record, batch_size=4))
    assert compare([str(write_comparison(static(2, 3))), "--limit", "1", "--out", str(made)]) == 0
    told = "holds videos that were made 4 at a time, and batch_size is 1 now: latencies of the two do not compare"
    assert told in capsys.readouterr().out
    assert compare([str(write_comparison(static(2, 3))), "--limit", "1", "--out", str(made)]) == 0
    assert "at a time" not in capsys.readouterr().out


def test_a_metric_that_is_added_asks_for_the_videos_again(made, write_comparison, make_row):
    rows = [replace(row, ssim=None) for row in read_results(made / "results.jsonl")]
    write_results(made / "results.jsonl", rows)
    comparison = load_comparison(write_comparison(static(2, 3)))
    with pytest.raises(ValueError, match="holds videos without ssim, and metrics names it now"):
        ComparisonRun(comparison, made, None, "test")
    assert len(ComparisonRun(comparison, made, 1, "test", ["every-*"]).rows) == 1
    # LPIPS may lack its weights, and folders of earlier versions do not say whether steps were shared
    write_results(made / "results.jsonl", [replace(row, lpips=0.1) for row in rows[:1]])
    write_description(made / "comparison.json", replace(read_comparison(made / "comparison.json"), share_steps=None))
    shared = load_comparison(write_comparison(static(2, 3, keys="share_steps = True")))
    assert len(ComparisonRun(shared, made, 1, "test").rows) == 1


def test_one_command_at_a_time_writes_to_a_folder(compare, write_comparison, tmp_path, capsys):
    out = tmp_path / "out"
    with FolderLock(out) as lock:
        lock.acquire()
        assert compare([str(write_comparison(SETTINGS)), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "is in use by process" in error and "pass --out for another folder" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (SETTINGS.replace("Static", "Statik"), [], "cache.type is 'Statik', did you mean 'Static'"),
        ("metrics = ('pnsr',)\n" + SETTINGS, [], "unknown metric 'pnsr', did you mean 'psnr'"),
        (SETTINGS, ["--limit", "0"], "--limit: expected a whole number of at least 1, got '0'"),
        ("settings = dict(a=dict(cache=dict(type='Static'), overrides=dict(num_frames=34)))\n", [], "num_frames"),
        (
            "settings = dict(a=dict(cache=dict(type='Static'), overrides={'model.quantize': 'int8-weights'}))\n",
            [],
            "setting 'a' has another model.quantize than the baseline, but all settings share its models",
        ),
        ("settings = dict(a=dict(cache=dict(type='Static'), overrides=dict(aes=5)))\n", [], "'a' has another aes than"),
        ("settings = dict(a=dict(cache=dict(type='Static'), overrides=dict(prompt='b')))\n", [], "has another prompts"),
        ("prompts = dict(heldout=0)\n" + SETTINGS, [], "heldout must be at least 1, got 0"),
        ("prompts = dict(heldout=2)\n" + SETTINGS, ["--prompt-seed", "-1"], "must be 0 or more, got -1"),
    ],
)
def test_mistakes(compare, write_comparison, tmp_path, capsys, text, arguments, message):
    try:
        status = compare([str(write_comparison(text)), "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as end:  # from the parser
        status = end.code
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


PIPELINES = ["latte", "cogvideox", "wan", "hunyuan-video", "ltx-video", "hunyuan-video-1.5"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_a_benchmark_of_a_pipeline(name, compare, pipeline_config, tmp_path, capsys):
    """Three policies on a small pipeline, interrupted after one prompt and resumed."""
    (tmp_path / "run.py").write_text(f'{pipeline_config(name)}save_dir = "{tmp_path}"\n')
    (tmp_path / "compare.py").write_text("""
run = "run.py"
settings = {
    "all": dict(cache=dict(type="AdaCache", codebook={1.0: 1})),
    "adacache": dict(cache=dict(type="AdaCache", codebook={1e9: 2, 2e9: 1}, decision="sample")),
    "every-2": dict(cache=dict(type="Static", interval=2)),
    "fbcache": dict(cache=dict(type="FBCache", threshold=0.3)),
}
""")
    arguments = [str(tmp_path / "compare.py"), "--out", str(tmp_path / "out")]
    assert compare([*arguments, "--limit", "1"]) == 0
    first = read_results(tmp_path / "out" / "results.jsonl")
    rows = {row.setting: row for row in first}
    calls = len(rows["baseline"].schedule) // 6  # of the transformer in a step
    assert rows["baseline"].schedule == "#" * 6 * calls and rows["baseline"].psnr is None
    assert rows["adacache"].schedule == "##.###" * calls and rows["every-2"].schedule == "#.#.##" * calls
    assert rows["all"].psnr == 100 > rows["adacache"].psnr and rows["adacache"].cache_bytes > 0
    assert rows["fbcache"].policy == "fbcache"
    if name == "hunyuan-video-1.5":  # its costs are not counted
        assert {row.tflops for row in first} == {None}
    else:
        assert rows["all"].tflops == rows["baseline"].tflops > rows["fbcache"].tflops > 0
        assert rows["adacache"].tflops < rows["baseline"].tflops
    assert compare(arguments) == 0
    assert len(read_results(tmp_path / "out" / "results.jsonl")) == 15 and "10 videos made" in capsys.readouterr().out
    table = (tmp_path / "out" / "table.md").read_text()
    assert "every-2" in table and (tmp_path / "out" / "index.html").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.distributed
def test_workers_make_the_rows_of_a_single_process(compare, write_comparison, tmp_path):
    """Also with oracles, which plan from what was measured for all prompts before."""
    config, alone, out = write_comparison(SETTINGS), tmp_path / "alone", tmp_path / "out"
    assert compare([str(config), "--out", str(alone)]) == 0
    flags = [str(config), "--out", str(out), "--executor", "local", "--workers", "2"]
    assert compare([*flags, "--limit", "1"]) == 0
    assert compare(flags) == 0
    assert compare(flags) == 0

    def rows(folder):
        measured = dict(latency_s=1.0, loop_s=1.0, peak_memory_bytes=None)
        found = [replace(row, **measured) for row in read_results(folder / "results.jsonl")]
        return sorted(found, key=lambda row: (row.setting, row.index))

    assert rows(out) == rows(alone) and len(rows(out)) == 12
    for row in rows(out):
        assert (out / row.video).read_bytes() == (alone / row.video).read_bytes()


def test_rows_that_a_dead_worker_had_made_are_not_made_again(write_comparison, tmp_path):
    comparison = load_comparison(write_comparison("settings = dict(every2=dict(cache=dict(type='Static')))\n"))
    run = ComparisonRun(comparison, tmp_path / "out", 1, "test")
    assert [(work.name, work.cost, work.item.names) for work in run._missing_rows()] == [
        ("0000-0", 8 + 5, ("baseline", "every2"))
    ]
    write_description(tmp_path / "out" / "comparison.json", run.describe())
    making = RowMaking(run.comparison, tuple(run.tasks), run.folder)
    items = [work.item for work in run._missing_rows()]
    with making(items, 0) as make:
        first = next(iter(make(items)))
        append_result(run.folder / "results.jsonl", first.row)
        again = list(make(items))
    assert [first.row.setting, *(report.row.setting for report in again)] == ["baseline", "every2"]


def test_a_machine_that_does_not_see_the_folder_is_named(write_comparison, tmp_path):
    comparison = load_comparison(write_comparison("settings = dict(every2=dict(cache=dict(type='Static')))\n"))
    run = ComparisonRun(comparison, tmp_path / "out", 1, "test")
    with pytest.raises(OSError, match="is not the folder of this benchmark; all machines need a file system that they"):
        with RowMaking(run.comparison, tuple(run.tasks), run.folder)([], 0):
            pass


def test_prompts_of_another_seed(compare, write_comparison, tmp_path, capsys):
    """A folder keeps the seed of its prompts; none of any seed is a prompt of calibration."""
    config = write_comparison(
        "prompts = dict(heldout=2, seed=3)\nsettings = dict(every2=dict(cache=dict(type='Static')))\n"
    )
    out = tmp_path / "out"
    run = ComparisonRun(load_comparison(config, prompt_seed=4), out, None, "test")
    assert [task.job.prompt for task in run.tasks] == [text for text, _ in heldout_prompts(2, 4)]
    write_description(out / "comparison.json", run.describe())
    assert compare([str(config), "--out", str(out)]) == 2
    assert "holds videos of prompts drawn with seed 4, not 3; choose another --out" in capsys.readouterr().err
    assert ComparisonRun(load_comparison(config, prompt_seed=4), out, None, "test").num_missing == 4
    calibration = set((ROOT / "assets" / "scenes" / "calibration.txt").read_text().splitlines())
    assert not calibration & {text for seed in range(5) for text, _ in heldout_prompts(64, seed)}


def test_a_prompt_seed_needs_held_out_prompts(compare, write_comparison, tmp_path, capsys):
    config = write_comparison("settings = dict(every2=dict(cache=dict(type='Static')))\n")
    assert compare([str(config), "--prompt-seed", "4", "--out", str(tmp_path / "out")]) == 2
    assert "draws no held-out prompts, so it has no prompt seed" in capsys.readouterr().err


def test_an_estimate_makes_nothing(compare, write_comparison, tmp_path, capsys):
    config = write_comparison("batch_size = 2\nsettings = dict(every2=dict(cache=dict(type='Static', interval=2)))\n")
    assert compare([str(config), "--estimate", "--out", str(tmp_path / "out")]) == 0
    # two baseline videos of 8 steps and two of 5
    assert capsys.readouterr().out.startswith("4 videos with 26 computed steps are missing: about ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings = dict(a=dict(cache=dict(type='FBCache', threshold=0.1)))\n", "set decision='sample'"),
        ("settings = dict(a=dict(oracle='video', computed_steps=4))\n", "plans each video: leave batch_size out"),
        ("settings = dict(a=dict(cache=dict(type='Static'), budget=40))\n", "settings.a.budget must lie in 1..8"),
    ],
)
def test_settings_that_batches_cannot_have(write_comparison, text, message):
    with pytest.raises(ValueError, match=message):
        load_comparison(write_comparison("batch_size = 2\n" + text))
