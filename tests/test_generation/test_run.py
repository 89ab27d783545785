"""Whole runs: files, records, resuming, overwriting, sharing with other settings."""

from __future__ import annotations

import json

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation.batches import plan_batches
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.run import run
from opensora_adacache.media.reading import read_reference, read_video
from opensora_adacache.media.writing import write_image
from opensora_adacache.parallel import ProcessGroup

PROMPTS = ["a red circle moves left", "a blue square", "a green triangle"]
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
    with pytest.raises(ValueError, match=r"other settings \(seed was 7 and is 8 now\); pass --overwrite"):
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
    # another image is another video
    write_image(images.save_dir / "sample_0002.png", torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="sample_0002.mp4' was made with other settings"):
        run(config)


def test_an_unreadable_reference_costs_no_time(configure, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    # the models are not even looked for
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
