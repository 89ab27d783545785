"""The pipeline, with real classes at small size: what a clip depends on, references, loops, images."""

from __future__ import annotations

import copy
import json
import math
from functools import partial

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation import pipeline as pipeline_module
from opensora_adacache.generation.dtypes import DTYPES
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.loading import load_text_encoder, load_transformer, load_vae
from opensora_adacache.generation.pipeline import Pipeline
from opensora_adacache.media.reading import read_reference
from opensora_adacache.media.writing import write_image, write_video

PROMPTS = ("a red circle moves left", "a blue square", "a green triangle moves quickly up")
CACHE = {"cache.codebook": {0.1: 4, 0.3: 3, 0.5: 2, 1.0: 1}, "cache.decision": "sample"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config_path(tmp_path_factory, tiny_config):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(tiny_config)
    return path


@pytest.fixture(scope="module")
def models(config_path):
    config = load_config(config_path, {"prompt": ["a"], "save_dir": "out"})
    transformer = load_transformer(config.model, DTYPES["fp32"], CPU)
    encoder = load_text_encoder(config.text_encoder, DTYPES["fp32"], CPU)
    encoder.attach_null(transformer.y_embedder.y_embedding)
    return transformer, load_vae(config.vae, DTYPES["fp32"], CPU), encoder


def generate(config_path, models, prompts=PROMPTS, rows=None, **overrides):
    """Make the clips of some rows of a run in one batch."""
    values = {"prompt": list(prompts), "save_dir": "out", **overrides}
    config = load_config(config_path, {key.replace("__", "."): value for key, value in values.items()})
    transformer, vae, encoder = models
    jobs = plan_jobs(config)
    jobs = jobs if rows is None else [jobs[row] for row in rows]
    return Pipeline(config, transformer, vae, CPU).generate(jobs, encoder)


@pytest.fixture
def make(config_path, models):
    return partial(generate, config_path, models)


def computed(clip):
    return [[record.step for record in trace if record.computed] for trace in clip.traces]


def close(first, second):
    torch.testing.assert_close(first.frames, second.frames, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cache", [{}, CACHE], ids=["baseline", "adacache"])
def test_a_clip_does_not_depend_on_its_batch(make, cache):
    batch = make(**cache)
    schedules = [computed(clip) for clip in batch]
    for row, clip in enumerate(batch):
        (single,) = make(rows=[row], **cache)
        close(clip, single)
        assert computed(single) == schedules[row]
    backwards = make(rows=[2, 1, 0], **cache)
    for clip, other in zip(batch, reversed(backwards), strict=True):
        close(clip, other)
    if cache:
        assert len({str(schedule) for schedule in schedules}) > 1


def test_a_cache_that_never_skips_changes_nothing(make):
    (plain,) = make(rows=[0])
    (cached,) = make(rows=[0], cache__codebook={1.0: 1})
    assert torch.equal(plain.frames, cached.frames)
    assert computed(cached) == [list(range(1, 9))]
    assert plain.traces == [] and plain.peak_cache_bytes == 0 < cached.peak_cache_bytes


def test_seeds_tell_videos_and_samples_apart(make):
    first, second = make(["same", "same"])
    assert not torch.equal(first.frames, second.frames)
    sample, other = make(["same"], num_sample=2)
    torch.testing.assert_close(sample.frames, first.frames, rtol=0, atol=1e-4)
    assert not torch.equal(sample.frames, other.frames)


def test_a_whole_kept_reference_comes_back(make, models, tmp_path):
    video = torch.rand(3, 17, 64, 64) * 2 - 1
    path = write_video(tmp_path / "ref.mp4", video, 8)
    # decoded by hand, without the sampler
    latents = models[1].encode(read_reference(path, (64, 64))[None])
    expected = models[1].decode(latents, 17)[0]
    (clip,) = make(["a"], reference_path=str(path), mask_strategy="0,0,0,0,5,0")
    torch.testing.assert_close(clip.frames, expected, rtol=0, atol=1e-5)


def test_an_image_conditions_the_first_latent_only(make, tmp_path):
    image = str(write_image(tmp_path / "ref.png", torch.rand(3, 80, 100) * 2 - 1))
    (plain,) = make(["a"])
    (kept,) = make(["a"], reference_path=image, mask_strategy="0")
    (free,) = make(["a"], reference_path=image, mask_strategy="0,0,0,0,1,1.0")
    assert not torch.equal(plain.frames, kept.frames)
    assert torch.equal(plain.frames, free.frames)


def test_a_neighbour_with_a_reference_changes_nothing(make, tmp_path):
    image = write_image(tmp_path / "ref.png", torch.zeros(3, 64, 64))
    options = json.dumps({"reference_path": str(image), "mask_strategy": "0"})
    prompts = [f"a {options}", "b"]
    with_reference, without = make(prompts, loop=2, num_frames=34)
    close(with_reference, make(prompts, rows=[0], loop=2, num_frames=34)[0])
    close(without, make(prompts, rows=[1], loop=2, num_frames=34)[0])


def test_loops_go_on_from_the_clip_before(make, models):
    (clip,) = make(["|0| a red circle |1| a blue square"], loop=2, num_frames=34, **CACHE)
    assert clip.frames.shape == (3, 34 + 17, 64, 64)
    assert len(clip.traces) == 2
    (first,) = make(["a red circle"], num_frames=34)
    # loop 0 is the clip of its own prompt, exactly if there is no cache
    (plain,) = make(["|0| a red circle |1| a blue square"], loop=2, num_frames=34)
    torch.testing.assert_close(plain.frames[:, :34], first.frames, rtol=0, atol=1e-5)
    (other,) = make(["|0| a red circle |1| a green circle"], loop=2, num_frames=34)
    assert torch.equal(other.frames[:, :34], plain.frames[:, :34])
    assert not torch.equal(other.frames[:, 34:], plain.frames[:, 34:])


def test_images_are_told_a_rate_of_their_own(make):
    (image,) = make(["a"], num_frames=1)
    assert image.frames.shape == (3, 1, 64, 64)
    assert torch.equal(image.frames, make(["a"], num_frames=1, fps=3)[0].frames)
    assert not torch.equal(make(["a"])[0].frames, make(["a"], fps=3)[0].frames)


def test_a_reference_that_is_no_picture(make, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        make(["a"], reference_path=str(tmp_path / "bad.png"), mask_strategy="0")


def test_a_cache_is_attached_once_for_a_block_and_each_run_is_one_of_its_own(config_path, models, monkeypatch):
    attached = []
    apply = pipeline_module.apply_cache
    monkeypatch.setattr(pipeline_module, "apply_cache", lambda *given: attached.append(given) or apply(*given))
    values = {"prompt": list(PROMPTS), "save_dir": "out", "loop": 2, "num_frames": 34, **CACHE}
    config = load_config(config_path, values)
    transformer, vae, encoder = models
    jobs, pipeline = plan_jobs(config), Pipeline(config, transformer, vae, CPU)
    bare = set(vars(transformer))
    singles = [pipeline.generate([job], encoder)[0] for job in jobs]
    assert len(attached) == 3 and set(vars(transformer)) == bare
    with pipeline:
        (two, other), (one,) = pipeline.generate(jobs[:2], encoder), pipeline.generate(jobs[2:], encoder)
        with pytest.raises(ValueError, match="cache attached already"):
            apply(transformer, config.cache, 8)
    assert len(attached) == 4 and set(vars(transformer)) == bare
    for clip, single in zip((two, other, one), singles, strict=True):
        close(clip, single)
        assert computed(clip) == computed(single)
    # the peak is that of this batch, not of a larger batch before it
    assert two.peak_cache_bytes == other.peak_cache_bytes == 2 * one.peak_cache_bytes > 0


def test_the_callback_sees_the_steps_of_every_loop(config_path, models):
    config = load_config(config_path, {"prompt": ["a"], "save_dir": "out", "loop": 2, "num_frames": 34})
    transformer, vae, encoder = models
    seen = []
    Pipeline(config, transformer, vae, CPU).generate(plan_jobs(config), encoder, seen.append)
    assert [step.index for step in seen] == list(range(16))
    assert {(step.num_steps, step.computed, step.distances) for step in seen} == {(16, (True,), ())}


def test_a_step_tells_what_computed_and_was_measured_and_previews_the_middle_frame(config_path, models):
    values = {"prompt": list(PROMPTS[:2]), "save_dir": "out", **CACHE}
    config = load_config(config_path, values)
    transformer, vae, encoder = models
    steps, seen = [], []
    clips = Pipeline(config, transformer, vae, CPU).generate(
        plan_jobs(config), encoder, lambda step: (steps.append(step), seen.append((step.computed, step.preview())))
    )
    for row, clip in enumerate(clips):
        assert [did[row] for did, _ in seen] == [record.computed for record in clip.traces[0]]
        assert [step.distances[row] for step in steps] == [record.distance for record in clip.traces[0]]
        assert [step.motions[row] for step in steps] == [record.motion for record in clip.traces[0]]
        assert any(step.distances[row] for step in steps)
        # the estimates come closer to the frame of the video, and after the last step it is this frame
        errors = [(frames[row] - clip.frames[:, 8]).abs().mean().item() for _, frames in seen]
        assert errors[0] > errors[4] > errors[6] > 0 and errors[7] < 1e-5


class OverflowingEncoder:
    """A text encoder that returns NaN for one text, like T5 in float16."""

    def __init__(self, encoder, text):
        self.encoder, self.text, self.null = encoder, text, encoder.null

    def encode(self, prompts):
        features = self.encoder.encode(prompts)
        features["y"][[prompt == self.text for prompt in prompts]] = math.nan
        return features


@pytest.mark.parametrize(("loops", "where"), [(1, ""), (2, " in loop 1")])
def test_a_video_that_is_not_finite_is_told_and_its_neighbour_is_not_touched(config_path, models, loops, where):
    prompts = ["|0| a red circle |1| a red square" if loops == 2 else "a red square", "a blue square"]
    config = load_config(config_path, {"prompt": prompts, "save_dir": "out", "loop": loops, "num_frames": 34})
    transformer, vae, encoder = models
    pipeline, jobs = Pipeline(config, transformer, vae, CPU), plan_jobs(config)
    _, healthy = pipeline.generate(jobs, encoder)
    first, second = pipeline.generate(jobs, OverflowingEncoder(encoder, "a red square"))
    assert first.defect == f"denoising returned values that are not finite (NaN or infinity){where}"
    assert second.defect is healthy.defect is None
    assert torch.equal(second.frames, healthy.frames)


def test_a_decoder_that_overflows_is_told_apart(config_path, models):
    transformer, vae, encoder = models
    config = load_config(config_path, {"prompt": ["a"], "save_dir": "out"})
    broken = copy.deepcopy(vae)
    broken.scale.fill_(3e38)
    (clip,) = Pipeline(config, transformer, broken, CPU).generate(plan_jobs(config), encoder)
    assert clip.defect == "decoding returned values that are not finite (NaN or infinity)"
