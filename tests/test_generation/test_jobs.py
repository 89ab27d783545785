"""Jobs: names, seeds, texts per loop, references, and what a video depends on."""

from __future__ import annotations

import json

import pytest
import torch

from opensora_adacache.benchmark.vbench import VBenchPrompt
from opensora_adacache.config import load_config
from opensora_adacache.generation.jobs import plan_jobs


@pytest.fixture
def config(tmp_path, tiny_config):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)

    def configure(prompts=("a red circle", "a blue square"), image=False, **overrides):
        values = {"prompt": list(prompts), "save_dir": str(tmp_path / "out"), **overrides}
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
