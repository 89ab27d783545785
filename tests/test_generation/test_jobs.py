"""Jobs: names, seeds, texts per loop, references, and descriptions."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.benchmark.vbench import VBenchPrompt
from opensora_adacache.config import load_config
from opensora_adacache.errors.family import AdaCacheError, AdaCacheWarning, ConfigError
from opensora_adacache.generation.jobs import plan_jobs


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_config):
    tmp_path = tmp_path_factory.mktemp("jobs")
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)

    def configure(prompts=("a red circle", "a blue square"), image=False, **overrides):
        values = {"prompt": prompts and list(prompts), "save_dir": str(tmp_path / "out"), **overrides}
        return load_config(path, {key.replace("__", "."): value for key, value in values.items()}, image=image)

    return configure


def test_names_and_seeds_count_from_the_start_index(config):
    jobs = plan_jobs(config(start_index=3))
    assert [job.path.name for job in jobs] == ["sample_0003.mp4", "sample_0004.mp4"]
    assert [job.seed for job in jobs] == [10, 11]  # the config's seed is 7
    assert jobs[0].record_path.name == "sample_0003.json"


def test_samples_and_images(config):
    jobs = plan_jobs(config(num_sample=2, sample_name="kite", num_frames=1))
    assert [job.path.name for job in jobs] == [
        *("kite_0000-0.png", "kite_0000-1.png", "kite_0001-0.png", "kite_0001-1.png")
    ]


def test_vbench_finds_videos_by_prompts_as_long_as_its_own(config):
    prompt = "p" * 210
    jobs = plan_jobs(config([prompt], prompt_as_path=True, num_sample=5))
    assert tuple(job.path.name for job in jobs) == VBenchPrompt(prompt, ("scene",)).video_names


def test_prompt_as_path(config):
    prompts = ["a/b |c|", "x" * 300]
    names = [job.path.name for job in plan_jobs(config(prompts, prompt_as_path=True))]
    assert names == ["a_b |c|.mp4", "x" * 240 + ".mp4"]
    with pytest.raises(ValueError, match="prompts 0 and 1 would both be written to"):
        plan_jobs(config(["same", "same"], prompt_as_path=True))


def file_names(config, prompts, **overrides):
    return [job.path.name for job in plan_jobs(config(prompts, prompt_as_path=True, **overrides))]


def test_prompts_that_are_no_file_names(config):
    prompts = [".", "..", ".hidden", "../x", "a\nb\tc\x1b", "a\u2028b", "run", "RUN", "/etc/x", "\\a"]
    names = ["_.mp4", "__.mp4", "_hidden.mp4", "___x.mp4", "a_b_c_.mp4", "a_b.mp4", "run_.mp4", "RUN_.mp4"]
    assert file_names(config, prompts) == [*names, "_etc_x.mp4", "_a.mp4"]
    assert file_names(config, ["run"], num_sample=2) == ["run-0.mp4", "run-1.mp4"]
    assert file_names(config, ["un"], sample_name="r") == ["run_.mp4"]
    with pytest.raises(ConfigError, match="prompts 0 and 1 would both be written to"):
        file_names(config, ["run", "run_"])


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{\0"), min_size=1), min_size=1),
    st.one_of(st.none(), st.text(max_size=4)),
    st.booleans(),
)
def test_videos_stay_in_their_folder_whatever_they_are_called(config, prompts, sample_name, as_path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdaCacheWarning)
            jobs = plan_jobs(config(prompts, prompt_as_path=as_path, sample_name=sample_name))
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1
        return
    for job in jobs:
        for path in (job.path, job.record_path):
            assert path.parent.name == "out" and path.resolve().parent == path.parent.resolve()
            assert path.name.isprintable() and not path.name.startswith(".") and path.name != "run.json"
            assert len(path.name.encode()) < 255


@pytest.mark.parametrize("name", ["../x", "./clip", "a/b", "..", ".", ".x", "a\\b", "a\nb", ""])
def test_a_sample_name_that_leaves_the_folder_is_refused(config, name):
    with pytest.raises(ConfigError, match="sample_name must be the start of a file name") as error:
        config(sample_name=name)
    assert "\n" not in str(error.value)


def test_a_sample_name_leaves_space_for_the_index(config):
    (job,) = plan_jobs(config(["a"], sample_name="é" * 100))
    assert job.path.name == "é" * 100 + "_0000.mp4"
    with pytest.raises(ConfigError, match="sample_name must have at most 200 bytes, .*, got 202"):
        config(sample_name="é" * 101)


@pytest.mark.parametrize(
    ("prompts", "overrides", "message"),
    [
        (["|0| dawn |5| dusk"], {"loop": 2}, r"prompt 0 .* has a text for loop \|5\|, but the run has 2 loops"),
        (["|0| dawn |1| dusk"], {}, r"has a text for loop \|1\|, but the run has 1 loop \(--loop\)"),
        (["a", "a street |2| at night"], {"loop": 3}, r"prompt 1 .* loop mark \|2\| in the middle"),
        (["a street |0| at night"], {}, r"loop mark \|0\| in the middle"),
        (['a {"reference_path": "b.png"}', "c"], {}, "prompt 0 .* has a reference_path, which is not used: its mask"),
        (['a {"mask_strategy": "3"}'], {"loop": 2}, "has the mask strategy '3,0,0,0,1,0' for loop 3"),
    ],
)
def test_loop_marks_that_no_loop_uses_are_named(config, prompts, overrides, message):
    with pytest.warns(AdaCacheWarning, match=message) as warned:
        plan_jobs(config(prompts, num_frames=34, num_sample=2, **overrides))
    assert len(warned) == 1 and "\n" not in str(warned[0].message)


def test_images_take_the_text_of_the_first_loop_without_a_warning(config):
    (job,) = plan_jobs(config(["|0| dawn |5| dusk"], num_frames=1))
    assert job.texts == ("dawn",)


@pytest.mark.parametrize(
    "path", ["https://host/a.png", "http://host/folder", "b.png;s3://bucket/a.png", "file:///tmp/a.png"]
)
def test_urls_are_named_as_they_are_and_not_fetched(config, path):
    url = path.split(";")[-1]
    with pytest.raises(ConfigError, match=f"reference '{url}' is a URL, which is not fetched"):
        config(reference_path=path)
    written = f"a {json.dumps({'reference_path': path, 'mask_strategy': '0'})}"
    with pytest.raises(ConfigError, match=f"reference '{url}' is a URL, which is not fetched"):
        plan_jobs(config([written]))
    with pytest.raises(ConfigError, match=r"prompt_path 'https://x' is a URL"):
        config(None, prompt_path="https://x")


def test_a_home_that_nobody_has_is_a_file_that_does_not_exist(config):
    with pytest.raises(FileNotFoundError, match="reference '~nouser/x.png' of prompt 0"):
        plan_jobs(config(["a"], reference_path="~nouser/x.png", mask_strategy="0"))


def test_every_stream_is_its_own(config):
    jobs = plan_jobs(config(num_sample=2))
    seeds = [job.loop_seed(loop) for job in jobs for loop in range(3)]
    draws = {torch.randn(4, generator=torch.Generator().manual_seed(seed)).sum().item() for seed in seeds}
    assert len(draws) == len(seeds)
    assert jobs[0].loop_seed(0) == 7


def test_texts_change_by_loop_and_carry_scores(config):
    (job,) = plan_jobs(config(["|0| dawn |2| dusk"], loop=3, num_frames=34, aes=7, flow=5))
    scores = " aesthetic score: 7.0. motion score: 5.0."
    assert job.texts == ("dawn" + scores, "dawn" + scores, "dusk" + scores)


def test_options_in_the_prompt_count_over_the_config(config, tmp_path):
    (tmp_path / "a.png").touch()
    options = {"reference_path": str(tmp_path / "a.png"), "mask_strategy": "0,0,0,0,2,0.5"}
    written = f"a kite {json.dumps(options)}"
    job, other = plan_jobs(config([written, "plain"]))
    assert job.prompt == "a kite" and job.references == (tmp_path / "a.png",)
    assert (job.masks[0].length, job.masks[0].edit_ratio) == (2, 0.5)
    assert other.references == () and other.masks == ()


def test_without_masks_references_are_not_looked_for(config):
    assert plan_jobs(config(reference_path="gone/folder", mask_strategy=""))[0].references == ()


@pytest.mark.parametrize(
    ("prompts", "overrides", "message"),
    [
        (["a"], {"mask_strategy": "0"}, r"prompt 0 \('a'\) starts from .* run_sample_image.sh .*--mask-strategy"),
        (["a"], {"mask_strategy": "0", "reference_path": "gone"}, "'gone' has no image for it; make it with"),
        (["a"], {"mask_strategy": "0", "reference_path": "gone.png"}, "reference 'gone.png' of prompt 0"),
        (["a"], {"mask_strategy": "x"}, "mask strategy group 'x' has loop 'x'"),
        (["a", "b"], {"mask_strategy": ["0", "0", "0"]}, "mask_strategy has 3 entries for 2 prompts"),
        (["a {oops"], {}, "bad JSON in prompt"),
        (['{"mask_strategy": "0"}'], {}, "prompt 0 is empty"),
        (["|1| a"], {}, r"loops must start at \|0\|"),
    ],
    ids=str,
)
def test_mistakes_name_the_prompt(config, prompts, overrides, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan_jobs(config(prompts, **overrides))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [("0,1", "names reference 1, but it has 1"), ("0,0,0,9", "starts at latent 9, but .* has 5 latents")],
)
def test_masks_fit_references_and_clip(config, tmp_path, strategy, message):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=message):
        plan_jobs(config(reference_path=str(tmp_path / "a.png"), mask_strategy=strategy))
