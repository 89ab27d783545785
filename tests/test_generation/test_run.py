"""Whole runs: files, records, resuming, overwriting, folders with different settings."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation.batches import plan_batches
from opensora_adacache.generation.folder import RunFolder
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.lock import FolderLock
from opensora_adacache.generation.previews import Previews
from opensora_adacache.generation.records import read_run
from opensora_adacache.generation.run import RunInterrupted, run
from opensora_adacache.media.reading import read_reference, read_video
from opensora_adacache.media.writing import write_image
from opensora_adacache.models import T5TextEncoder
from opensora_adacache.parallel import ProcessGroup

PROMPTS = ["a red circle moves left", "a blue square", "a green triangle"]
SAVE = RunFolder.save
CACHE = {"cache.codebook": {0.1: 4, 0.3: 3, 0.6: 2, 1.0: 1}}


@pytest.fixture
def configure(tmp_path, tiny_config):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)

    def configure(folder="out", image=False, **overrides):
        values = {"prompt": PROMPTS, "save_dir": str(tmp_path / folder), **overrides}
        return load_config(path, {key.replace("__", "."): value for key, value in values.items()}, image=image)

    return configure


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def videos(config):
    return {path.name: path.read_bytes() for path in config.save_dir.glob("*.mp4")}


def test_previews_exist_while_a_video_is_made_and_change_nothing(configure, monkeypatch):
    values = {"prompt": PROMPTS[:1], "num_frames": 1}  # an image, which is quick
    plain, config = configure("plain", **values), configure(preview=3, **values)
    run(plain)
    config.save_dir.mkdir()
    (config.save_dir / "sample_0000.preview.jpg").write_bytes(b"of a run that was killed")
    shown, show = [], Previews.show

    def look(self, step, videos):
        before = names(config.save_dir)
        show(self, step, videos)
        shown.append([name for name in names(config.save_dir) if name not in before])

    monkeypatch.setattr(Previews, "show", look)
    run(config)
    assert shown == [[], [], ["sample_0000.preview.jpg"], *[[]] * 5]
    pictures = [(one.save_dir / "sample_0000.png").read_bytes() for one in (plain, config)]
    assert pictures[0] == pictures[1] and names(config.save_dir) == names(plain.save_dir)
    assert run(configure(**values)).num_skipped == 1  # previews do not make it another one


def test_files_records_and_trace(configure):
    config = configure(prompt=PROMPTS[:2], **CACHE)
    summary = run(config)
    assert (summary.num_made, summary.num_skipped) == (2, 0)
    assert names(config.save_dir) == [
        *("run.json", "sample_0000.json", "sample_0000.mp4", "sample_0001.json", "sample_0001.mp4")
    ]
    assert read_video(config.save_dir / "sample_0000.mp4").shape == (3, 17, 64, 64)

    record = json.loads((config.save_dir / "sample_0001.json").read_text())
    assert (record["prompt"], record["seed"], record["num_steps"]) == ("a blue square", 8, 8)
    (trace,) = record["traces"]
    assert [entry["step"] for entry in trace] == list(range(1, 9))
    assert record["computed_steps"] == sum(entry["computed"] for entry in trace) < 8

    whole = json.loads((config.save_dir / "run.json").read_text())
    assert whole["state"] == "complete"
    assert whole["versions"]["torch"] == torch.__version__
    assert whole["device"]["type"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert whole["config"]["cache"]["codebook"]["0.1"] == 4
    assert [video["seed"] for video in whole["videos"]] == [7, 8]
    assert whole["videos"][1]["computed_steps"] == record["computed_steps"]
    assert set(whole["seconds"][0]) == {"loading", "text", "denoising", "decoding", "total"}


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 2, **CACHE, "cache.decision": "batch"}, {"text_encoder.offload": True}],
    ids=["single", "batch decides", "offload"],
)
def test_a_resumed_run_makes_the_missing_video_only_and_the_same(configure, options):
    config = configure(**options)
    run(config)
    before = videos(config)
    untouched = (config.save_dir / "sample_0000.mp4").stat().st_mtime_ns
    (config.save_dir / "sample_0001.mp4").unlink()
    summary = run(config)
    assert (summary.num_made, summary.num_skipped) == (1, 2)
    assert videos(config) == before
    assert (config.save_dir / "sample_0000.mp4").stat().st_mtime_ns == untouched
    assert run(config).num_made == 0


def test_offloading_changes_nothing(configure):
    plain, offloaded = configure("plain"), configure("offloaded", text_encoder__offload=True)
    run(plain)
    run(offloaded)
    assert videos(plain) == videos(offloaded)


def test_other_settings_do_not_take_old_videos_for_theirs(configure):
    run(configure(prompt=PROMPTS[:1]))
    with pytest.raises(ValueError, match=r"different settings \(seed was 7 and is 8 now\); pass --overwrite"):
        run(configure(prompt=PROMPTS[:1], seed=8))
    before = videos(configure())
    assert run(configure(prompt=PROMPTS[:1], seed=8, overwrite=True)).num_made == 1
    assert videos(configure()) != before


def test_a_video_of_unknown_origin_stays(configure):
    config = configure(prompt=PROMPTS[:1])
    config.save_dir.mkdir()
    (config.save_dir / "sample_0000.mp4").write_text("mine")
    assert run(config).num_made == 0
    assert (config.save_dir / "sample_0000.mp4").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["sample_0001.mp4", "sample_0001.json"])
def test_a_folder_with_the_name_of_a_file_is_named_before_anything_is_made(configure, name, overwrite):
    config = configure(overwrite=overwrite, text_encoder__from_pretrained="no/where")
    (config.save_dir / name).mkdir(parents=True)
    with pytest.raises(OSError, match=f"{name}': it is a folder; move it, or choose another --save-dir"):
        run(config)
    assert names(config.save_dir) == [name]


def test_images_and_videos_of_one_name_cannot_share_a_folder(configure):
    """They would share a record, and the image would no longer count as one that this package made."""
    images = configure(image=True, prompt=PROMPTS[:1])
    run(images)
    before = {path: path.read_bytes() for path in images.save_dir.iterdir()}
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="sample_0000.json' is the record of 'sample_0000.png', and that of"):
            run(configure(prompt=PROMPTS, overwrite=overwrite, text_encoder__from_pretrained="no/where"))
    assert {path: path.read_bytes() for path in images.save_dir.iterdir()} == before
    (images.save_dir / "sample_0000.png").unlink()  # a record that nothing belongs to is in nobody's way
    assert len(plan_batches(plan_jobs(configure()), configure())) == 3


def test_images_are_made_where_the_videos_read_them(configure, tmp_path):
    folder = str(tmp_path / "images")
    options = {"reference_path": folder, "mask_strategy": "0", "save_dir": None}
    with pytest.raises(ValueError, match="prompt 0 .* starts from a reference image"):
        run(configure(**{**options, "save_dir": str(tmp_path / "out")}))
    images = configure(image=True, **options)
    run(images)
    assert [name for name in names(images.save_dir) if name.endswith(".png")] == [
        *("sample_0000.png", "sample_0001.png", "sample_0002.png")
    ]
    assert read_reference(images.save_dir / "sample_0000.png", (64, 64)).shape == (3, 1, 64, 64)
    config = configure(**{**options, "save_dir": str(tmp_path / "out")})
    assert run(config).num_made == 3
    record = json.loads((config.save_dir / "sample_0002.json").read_text())
    assert record["settings"]["references"][0].startswith("sample_0002.png ")
    # a different image gives a different video
    write_image(images.save_dir / "sample_0002.png", torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="sample_0002.mp4' was made with different settings"):
        run(config)


def test_an_unreadable_reference_costs_no_time(configure, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    # the models are not even looked up
    config = configure(
        reference_path=str(tmp_path / "bad.png"), mask_strategy="0", text_encoder__from_pretrained="no/where"
    )
    with pytest.raises(ValueError, match="bad.png' cannot be read"):
        run(config)
    assert json.loads((config.save_dir / "run.json").read_text())["state"] == "failed"


def test_a_folder_that_cannot_be_written(configure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        run(configure("file/out"))


def test_logdate_makes_a_folder_of_its_own(configure, tmp_path):
    summary = run(configure(prompt=PROMPTS[:1], logdate_dir=True))
    assert summary.save_dir.parent == tmp_path / "out"
    assert (summary.save_dir / "sample_0000.mp4").exists()


def test_a_watermark_is_seen(configure):
    plain, marked = configure("plain", prompt=PROMPTS[:1]), configure("marked", prompt=PROMPTS[:1], watermark=True)
    run(plain)
    run(marked)
    assert videos(plain) != videos(marked)


def test_batches_are_cut_from_the_whole_list(configure):
    config = configure(batch_size=2)
    jobs = plan_jobs(config)
    config.save_dir.mkdir()
    jobs[0].path.touch()
    assert [[job.index for job in batch.jobs] for batch in plan_batches(jobs, config)] == [[1], [2]]
    together = configure(batch_size=2, **CACHE)
    batches = plan_batches(plan_jobs(together), together)
    assert [[job.index for job in batch.jobs] for batch in batches] == [[0, 1], [2]]
    assert [sorted(path.name for path in batch.wanted) for batch in batches] == [
        *(["sample_0001.mp4"], ["sample_0002.mp4"])
    ]


def test_processes_share_without_overlap():
    groups = [ProcessGroup(rank, 3) for rank in range(3)]
    shares = [group.share(range(8)) for group in groups]
    assert sorted(sum(shares, [])) == list(range(8))
    assert [group.is_first for group in groups] == [True, False, False]


def test_the_reference_dialect_makes_the_same_videos(configure, tmp_path, tiny_config):
    codebook = {0.1: 4, 0.3: 3, 0.6: 2, 0.8: 2, 0.9: 1, 1.0: 1}
    moreg = {"steps": [2, 6], "center": 0.4, "power": 2, "divisor": 1, "gradient_weight": 10}
    ours = configure("ours", prompt=PROMPTS[:1], cache__codebook=codebook, cache__moreg=moreg)
    options = {
        "num_sampling_steps": 8,
        "do_cache": True,
        "cache_res": "t-attn",
        "cache_loc": [1],
        "codebook": codebook,
        "apply_moreg": True,
        "moreg_strides": [1],
        "moreg_steps": (2, 6),
        "moreg_hyp": (0.4, 2, 1, 2),
        "mograd_mul": 10,
    }
    path = tmp_path / "reference.py"
    path.write_text(tiny_config + f"model.update({options!r})\n")
    theirs = load_config(path, {"prompt": PROMPTS[:1], "save_dir": str(tmp_path / "theirs")})
    run(ours)
    run(theirs)
    assert videos(ours) == videos(theirs)
    traces = [json.loads((config.save_dir / "sample_0000.json").read_text())["traces"] for config in (ours, theirs)]
    schedules = [[entry["computed"] for entry in trace] for (trace,) in traces]
    assert schedules[0] == schedules[1] and not all(schedules[0])


@pytest.fixture
def overflowing(monkeypatch):
    """Makes the text encoder return NaN for the second prompt, as T5 can in float16."""
    encode = T5TextEncoder.encode

    def overflow(self, prompts):
        features = encode(self, prompts)
        features["y"][[prompt == PROMPTS[1] for prompt in prompts]] = math.nan
        return features

    with monkeypatch.context() as patch:
        patch.setattr(T5TextEncoder, "encode", overflow)
        yield patch


@pytest.fixture
def interrupting(monkeypatch):
    """Simulates Ctrl-C before the second video is saved."""
    save, saved = RunFolder.save, []

    def interrupted(self, job, *others):
        if saved:
            raise KeyboardInterrupt
        saved.append(save(self, job, *others))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", interrupted)
        yield patch


def test_a_video_that_is_not_finite_is_not_written_and_the_others_are(configure, overflowing, capsys):
    config = configure(batch_size=2)
    with pytest.raises(
        ValueError, match=r"1 of 3 videos .* 'sample_0001.mp4' \(denoising returned values .*NaN"
    ) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert "warning: '" in capsys.readouterr().err
    assert sorted(videos(config)) == ["sample_0000.mp4", "sample_0002.mp4"]
    assert names(config.save_dir) == [
        *("run.json", "sample_0000.json", "sample_0000.mp4", "sample_0002.json", "sample_0002.mp4")
    ]
    record = read_run(config.save_dir)
    assert (record.state, record.num_finished, list(record.failed)) == ("failed", 2, ["sample_0001.mp4"])
    overflowing.undo()
    assert run(config).num_made == 1
    assert read_run(config.save_dir).state == "complete"


@pytest.mark.filterwarnings("ignore:the model's output is not finite")
def test_with_a_cache_that_meets_nan_the_records_are_json(configure, overflowing):
    config = configure(prompt=PROMPTS[:2], batch_size=2, **CACHE, **{"cache.decision": "sample"})
    with pytest.raises(ValueError, match="1 of 2 videos could not be made"):
        run(config)

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    for path in config.save_dir.glob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


def test_the_second_run_of_a_folder_is_refused_in_one_line(configure):
    config = configure(prompt=PROMPTS[:1])
    with FolderLock(config.save_dir) as lock:
        lock.acquire()
        with pytest.raises(OSError, match=f"'{config.save_dir}' is in use by process .* --save-dir") as caught:
            run(config)
        assert "\n" not in str(caught.value) and names(config.save_dir) == [".run.lock"]
    assert run(config).num_made == 1
    assert names(config.save_dir) == ["run.json", "sample_0000.json", "sample_0000.mp4"]


def test_a_finished_run_needs_no_folder_that_can_be_written(configure, monkeypatch):
    config = configure(prompt=PROMPTS[:1])
    run(config)

    def refuse(self):
        raise OSError(f"cannot write '{self.folder}'")

    monkeypatch.setattr(FolderLock, "acquire", refuse)
    assert run(config).num_skipped == 1
    with pytest.raises(OSError, match="cannot write"):
        run(configure(prompt=PROMPTS[:2]))


def test_leftovers_of_a_killed_run_go_with_the_next_one(configure):
    config = configure(prompt=PROMPTS[:1])
    config.save_dir.mkdir()
    (config.save_dir / f".{'0' * 32}.part").write_bytes(b"half a video")
    run(config)
    assert names(config.save_dir) == ["run.json", "sample_0000.json", "sample_0000.mp4"]


def test_a_video_that_was_cut_off_is_made_again_and_kept_aside(configure, capsys):
    config = configure(prompt=PROMPTS[:2])
    run(config)
    before, path = videos(config), config.save_dir / "sample_0001.mp4"
    for number, name in ((1, "sample_0001.mp4.old"), (2, "sample_0001.mp4.old2")):
        path.write_bytes(before["sample_0001.mp4"][: 1000 * number])
        assert run(config).num_made == 1
        assert videos(config) == before
        assert (config.save_dir / name).read_bytes() == before["sample_0001.mp4"][: 1000 * number]
        assert f"does not match its record; it is kept as '{path}" in capsys.readouterr().err


def test_a_record_that_cannot_be_read_stops_the_run_in_one_line(configure):
    config = configure(prompt=PROMPTS[:1])
    run(config)
    record = config.save_dir / "sample_0000.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "seed": "seven"}))
    with pytest.raises(ValueError, match=r"seed must be a whole number, got 'seven'.*--overwrite, or delete") as caught:
        run(config)
    assert "\n" not in str(caught.value)
    record.unlink()
    assert run(config).num_made == 0  # a video of unknown origin


def test_a_record_of_version_1_counts(configure):
    config = configure(prompt=PROMPTS[:1])
    run(config)
    record = config.save_dir / "sample_0000.json"
    old = json.loads(record.read_text())
    for key in ("version", "file", "run"):
        del old[key]
    listed = {"model": ("type", "from_pretrained"), "vae": ("from_pretrained", "micro_frame_size")}
    listed["text_encoder"] = ("from_pretrained", "model_max_length", "dtype")
    for section, keys in listed.items():
        old["settings"][section] = {key: old["settings"][section][key] for key in keys}
    record.write_text(json.dumps(old))
    assert run(config).num_made == 0
    with pytest.raises(ValueError, match=r"different settings \(seed was 7 and is 8 now\)"):
        run(configure(prompt=PROMPTS[:1], seed=8))


@pytest.mark.parametrize("prompts_in_file", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_overwriting_run_that_is_interrupted_gives_advice_that_works(
    configure, tmp_path, interrupting, prompts_in_file
):
    given = {"prompt": PROMPTS}
    if prompts_in_file:
        (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
        given = {"prompt": None, "prompt_path": str(tmp_path / "prompts.txt")}
    config = configure(**given, seed=8, overwrite=True)
    with pytest.MonkeyPatch.context() as plain:
        plain.setattr(RunFolder, "save", SAVE)
        run(configure(**given))
    with pytest.raises(RunInterrupted) as caught:
        run(config)
    interrupting.undo()
    told = str(caught.value)
    assert told.startswith(f"interrupted: 1 of 3 videos were made again in '{config.save_dir}'")
    record = read_run(config.save_dir)
    assert (record.state, record.num_finished) == ("interrupted", 1)
    untouched = (config.save_dir / "sample_0000.mp4").stat().st_mtime_ns
    if prompts_in_file:
        assert told.endswith("run the same command with --start-index 1 to make the rest again")
        run(configure(**given, seed=8, overwrite=True, start_index=1))
        assert (config.save_dir / "sample_0000.mp4").stat().st_mtime_ns == untouched
    else:
        assert told.endswith("run the same command again to make all of them again")
        run(config)
    assert run(configure(**given, seed=8)).num_made == 0
    fresh = configure("fresh", **given, seed=8)
    run(fresh)
    assert videos(config) == videos(fresh)


def test_an_overwriting_run_of_new_videos_goes_on_without_the_flag(configure, interrupting):
    with pytest.raises(RunInterrupted, match="1 of 3 .* run the same command without --overwrite to make the rest"):
        run(configure(overwrite=True))
    interrupting.undo()
    summary = run(configure())
    assert (summary.num_made, summary.num_skipped) == (2, 1)


def test_an_interrupt_may_come_as_any_exception(configure, monkeypatch):
    """An interrupted import can raise any exception."""

    def load(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        raise ImportError("initialization failed")

    monkeypatch.setattr("opensora_adacache.generation.loading.load_models", load)
    with pytest.raises(RunInterrupted, match="0 of 3 videos are finished in .*; run the same command again"):
        run(configure())
    assert read_run(configure().save_dir).state == "interrupted"


def test_a_prompt_that_is_cut_is_told(configure, capsys):
    long = "a red circle and a blue square move slowly up and down and left"
    for offload in (False, True):
        config = configure(str(offload), prompt=["a red circle", long], text_encoder__offload=offload)
        assert run(config).num_made == 2
        told = "warning: prompt 1 is longer than 12 tokens; the model does not see its end 'down and left'\n"
        assert capsys.readouterr().err == told


def test_loading_is_announced(configure, tiny_checkpoints, capsys):
    run(configure(prompt=PROMPTS[:1], verbose=1))
    shown = capsys.readouterr().out
    for name, folder in (("text encoder", "text_encoder"), ("transformer", "transformer"), ("VAE", "vae")):
        assert f"loading the {name} from '{tiny_checkpoints}/{folder}' (" in shown


def test_pictures_larger_than_memory_are_refused_before_anything_is_loaded(configure, monkeypatch):
    monkeypatch.setattr("opensora_adacache.generation.memory.physical_memory", lambda: 10_000_000)
    options = {"text_encoder__from_pretrained": "no/where", "image_size": [256, 512], "batch_size": 8}
    told = (
        r"a batch of 51 frames of 256x512 takes 0.08022 GB, but this machine has 0.01 GB of memory; try --cfg-options"
    )
    with pytest.raises(ValueError, match=told) as caught:
        run(configure(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_bytes", [1 << 60, 1 << 62])
def test_a_cpu_without_memory_is_told_in_one_line(configure, monkeypatch, num_bytes):
    config = configure(prompt=PROMPTS[:1])
    load = "opensora_adacache.generation.loading.load_models"
    monkeypatch.setattr(load, lambda *_, **__: torch.empty(num_bytes, dtype=torch.uint8))
    with pytest.raises(ValueError, match="this machine is out of memory; try --cfg-options") as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert read_run(config.save_dir).state == "failed"
