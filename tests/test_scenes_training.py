"""The training stages of the bundled model resume exactly, and the models that they export can be loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opensora_adacache.errors.family import TrainingError
from opensora_adacache.models.stdit3 import STDiT3
from opensora_adacache.models.text_encoder import T5TextEncoder
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes import windows
from opensora_adacache.scenes.batches import draw_clips
from opensora_adacache.scenes.captions import write_caption
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.export import export_generator, export_vae
from opensora_adacache.scenes.generator import Average, Generator
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.keyframes import kept_frames
from opensora_adacache.scenes.latents import encode_frames, encode_kept, normalise
from opensora_adacache.scenes.plain_attention import plain_attention
from opensora_adacache.scenes.pool import CHUNK, Pool
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import SpatialRecipe, build_spatial, train_spatial
from opensora_adacache.scenes.stage import Budget, Stage
from opensora_adacache.scenes.structure import TRANSFORMER, VAE, spatial_factor
from opensora_adacache.scenes.temporal import TemporalRecipe, train_temporal
from opensora_adacache.scenes.text import Tags, Tokens, build_tokenizer, tag_targets
from opensora_adacache.scenes.transformer import GeneratorRecipe, draw_batch, train_generator
from opensora_adacache.scenes.words import NUM_FRAMES

CPU = torch.device("cpu")
SIZE = 32
TINY_TEMPORAL = TemporalRecipe(windows=1, held=windows.CHUNK, renew_every=1, clips=1, last_clips=1, frames=2)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(a, second.state_dict()[name]) for name, a in first.state_dict().items())


@pytest.mark.slow
def test_interrupted_vae_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    spatial = SpatialRecipe(clips=2, frames=1, crop_frames=1)
    vaes = []
    for folder, breaks in ((tmp_path / "whole", (None,)), (tmp_path / "parts", (1, None))):
        for stop in breaks:
            half = train_spatial(spatial, folder, Budget(steps=3), CPU, SIZE, stop_after=stop)
        for stop in breaks:
            vae = train_temporal(TINY_TEMPORAL, half, folder, Budget(steps=2), CPU, SIZE, stop_after=stop)
        vaes.append(vae)
    assert same(*vaes)


def fake_pool(seed: int = 0) -> Pool:
    """Return a pool whose latents are small pictures of the clips, which needs no VAE."""

    def encode(clips: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.adaptive_avg_pool3d(clips.transpose(1, 2), (5, SIZE // 4, SIZE // 4))
        return small.repeat(1, 6, 1, 1, 1)[:, : TRANSFORMER.in_channels]

    return Pool(encode, Renderer(CPU, SIZE), 2 * CHUNK, seed)


@pytest.mark.slow
def test_interrupted_transformer_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    recipe = GeneratorRecipe(batch=2, warm_up=2, tag_steps=2, renew_every=2)
    whole = train_generator(recipe, fake_pool(), tmp_path / "whole", Budget(steps=4))
    train_generator(recipe, fake_pool(), tmp_path / "parts", Budget(steps=4), stop_after=2)
    parts = train_generator(recipe, fake_pool(), tmp_path / "parts", Budget(steps=4))
    assert same(whole.copy(), parts.copy())
    assert (tmp_path / "parts" / "transformer.csv").read_text().startswith("step,seconds,loss\n2,")


def test_clips_single_frames_and_clips_with_their_first_frame_take_turns() -> None:
    pool, recipe = fake_pool(), GeneratorRecipe(batch=3, frames_until=0.5)
    pool.fill(0)

    def drawn(fraction: float) -> list[tuple[int, int, int]]:
        batches = [draw_batch(recipe, pool, step, fraction) for step in range(10)]
        return [(len(batch.latents), batch.latents.shape[2], given) for batch, given in batches]

    clips, frames, continued = (3, 5, 0), (15, 1, 0), (3, 5, 1)
    assert drawn(0.4) == [clips, frames, continued, *[clips] * 6, frames]
    assert drawn(0.5) == [clips, clips, continued, *[clips] * 7]


@pytest.mark.slow
def test_the_first_frame_is_given_without_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    velocity = Generator.velocity

    def watch(model: Generator, z: torch.Tensor, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((z, args[-1]))
        return velocity(model, z, *args)

    monkeypatch.setattr(Generator, "velocity", watch)
    pool = fake_pool()
    train_generator(GeneratorRecipe(batch=2, tag_steps=0, renew_every=9), pool, tmp_path, Budget(steps=3))
    assert [x_mask is None for _, x_mask in seen] == [True, True, False]
    z, x_mask = seen[-1]
    assert x_mask is not None and x_mask.tolist() == [[False, True, True, True, True]] * 2
    assert pool.latents is not None
    known = (pool.latents[:, None] == z).all(2).flatten(3).all(-1).any(0)  # [B, T]
    assert known.tolist() == [[True, False, False, False, False]] * 2


def test_a_stage_needs_one_budget() -> None:
    with pytest.raises(ValueError, match="in seconds or in steps"):
        Budget()


def test_a_stage_ends_with_its_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "short", Budget(seconds=1e-9), {})
    assert list(stage) == []
    assert (tmp_path / "short.pt").exists()


def test_the_files_of_a_finished_stage_are_only_read(tmp_path: Path) -> None:
    """Two processes may need the spatial stage at the same time: one to train the temporal decoder."""
    calls: list[int] = []
    for _ in range(2):
        stage = Stage(tmp_path, "done", Budget(steps=2), {}, on_save=lambda: calls.append(len(calls)))
        stage.resume()
        for _ in stage:
            stage.note(torch.zeros(()))
        if len(calls) == 1:
            for path in (stage.checkpoint, stage.log):
                path.chmod(0o444)
                os.utime(path, ns=(0, 0))
    # What is made of the checkpoint, such as weights/, is made again.
    assert calls == [0, 1]
    assert stage.step == 2
    assert [path.stat().st_mtime_ns for path in (stage.checkpoint, stage.log)] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.csv", "done.pt"]


def test_a_stage_stops_at_a_loss_that_is_no_number_and_keeps_the_checkpoint_from_before(tmp_path: Path) -> None:
    part = torch.nn.Linear(1, 1)
    stage = Stage(tmp_path, "broken", Budget(steps=6), {"model": part}, save_seconds=0, log_every=2)
    stage.resume()
    with pytest.raises(TrainingError, match=r"stage 'broken' must be a number, but was nan before step 4"):
        for step in stage:
            if step == 3:
                torch.nn.init.constant_(part.weight, torch.nan)
            stage.note(part.weight.sum())
    stage.resume()
    assert stage.step == 3 and part.weight.isfinite().all()
    assert len(stage.log.read_text().splitlines()) == 1 + 3


def test_a_pool_is_the_same_filled_late_or_renewed() -> None:
    renewed, late = fake_pool(), fake_pool()
    renewed.fill(0)
    renewed.put(2)
    late.fill(1)
    assert renewed.latents is not None and late.latents is not None
    assert torch.equal(renewed.latents, late.latents)
    assert torch.equal(renewed.tokens, late.tokens)
    assert all(torch.equal(values, late.told[name]) for name, values in renewed.told.items())


def test_single_frames_are_frames_of_their_clips() -> None:
    pool = fake_pool()
    pool.fill(0)
    torch.manual_seed(0)
    clips = pool.draw(24)
    frames = clips.single_frames()
    assert frames.latents.shape == (24, TRANSFORMER.in_channels, 1, 8, 8) and frames.shape.shape == (24, 1, 4)
    assert torch.equal(frames.tokens, clips.tokens) and torch.equal(frames.clip, clips.clip)
    found = (clips.latents == frames.latents).all(1).flatten(2).all(-1)  # [B, T]
    assert found.any(1).all() and (found.float().argmax(1) > 0).any()
    for row in range(24):
        # Of clips that stand still, all frames are the same.
        assert any(torch.equal(clips.measures[row, t], frames.measures[row, 0]) for t in found[row].nonzero()[:, 0])


def test_normalising_changes_nothing_but_the_latents() -> None:
    torch.manual_seed(0)
    # In double precision, because rounding grows through the decoder.
    vae = build_spatial().eval().requires_grad_(False).double()
    clips = draw_clips(np.random.default_rng(0), 2, Renderer(CPU, SIZE))[0].double()
    halved = Halved(vae, False)
    before = encode_frames(halved, clips).double()
    decoded = vae.decode(vae.encode(clips.flatten(0, 1)).latent_dist.mean).sample
    normalise(vae, before)
    after = encode_frames(halved, clips)
    torch.testing.assert_close(after.mean((0, 2, 3, 4)), torch.zeros(after.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std((0, 2, 3, 4)), torch.ones(after.shape[1]))
    torch.testing.assert_close(vae.decode(vae.encode(clips.flatten(0, 1)).latent_dist.mean).sample, decoded)


def test_half_precision_leaves_weights_and_gradients_whole() -> None:
    torch.manual_seed(0)
    vae = build_spatial()
    frames = torch.rand(2, 3, SIZE, SIZE)
    outputs = [Halved(vae, fast).call("encode", frames).latent_dist.mean for fast in (False, True)]
    assert outputs[1].dtype == torch.bfloat16
    torch.testing.assert_close(outputs[1].float(), outputs[0], atol=0.05, rtol=0.05)
    outputs[1].float().sum().backward()
    assert vae.encoder.conv_in.weight.grad.dtype == vae.encoder.conv_in.weight.dtype == torch.float32


def test_plain_attention_is_attention() -> None:
    torch.manual_seed(0)
    model = Generator()
    for parameter in model.transformer.parameters():
        if parameter.dim() > 1 and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    tokens = torch.tensor(Tokens()(["a red circle spins", "a blue star"]))
    features, mask = model.read(tokens)
    z, timestep = torch.randn(2, TRANSFORMER.in_channels, 5, 8, 8), torch.tensor([300.0, 900.0])
    usual, _ = model.velocity(z, timestep, features, mask, SIZE)
    with plain_attention():
        fast, _ = model.velocity(z, timestep, features, mask, SIZE)
    assert usual.abs().mean() > 0.1
    torch.testing.assert_close(fast, usual, atol=1e-5, rtol=1e-5)


def test_exported_weights_load_and_do_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Average(Generator(), 0.9).copy()
    export_generator(model, tmp_path)
    transformer = STDiT3.from_pretrained(tmp_path / "transformer", dtype=torch.float32)
    for name, value in model.transformer.state_dict().items():
        torch.testing.assert_close(transformer.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    text_encoder = T5TextEncoder.from_pretrained(tmp_path, transformer.config.model_max_length)
    text_encoder.attach_null(transformer.y_embedder.y_embedding)
    captions = [write_caption(spec) for spec in map(draw_specs(np.random.default_rng(0), 4).__getitem__, range(4))]
    features, mask = model.read(torch.from_numpy(Tokens()(captions)))
    encoded = text_encoder.encode(captions)
    torch.testing.assert_close(encoded["y"][:, 0], features)
    assert torch.equal(encoded["mask"], mask)


@pytest.mark.slow
def test_the_exported_vae_encodes_as_training_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    half = train_spatial(SpatialRecipe(clips=2, frames=1, crop_frames=1), tmp_path, Budget(steps=1), CPU, SIZE)
    vae = train_temporal(TINY_TEMPORAL, half, tmp_path, Budget(steps=1), CPU, SIZE)
    export_vae(vae, tmp_path / "weights")
    loaded = OpenSoraVAE.from_pretrained(tmp_path / "weights" / "vae", dtype=torch.float32)
    clips, _ = draw_clips(np.random.default_rng(1), 2, Renderer(CPU, SIZE))
    latents = encode_kept(half, clips[:, kept_frames(NUM_FRAMES, 4)])
    side = SIZE // spatial_factor()
    assert latents.shape == (2, VAE.temporal.latent_channels, -(-NUM_FRAMES // 4), side, side)
    # The group norms see whole clips there, so their scale differs a little.
    torch.testing.assert_close(loaded.encode(clips.transpose(1, 2)), latents, atol=0.03, rtol=0.03)


def test_tokens_are_those_of_the_tokenizer() -> None:
    specs = draw_specs(np.random.default_rng(5), 64)
    captions = [write_caption(specs[row], 7919 * row) for row in range(64)]
    usual = build_tokenizer()(captions, padding="max_length", truncation=True, return_tensors="np").input_ids
    assert np.array_equal(Tokens()(captions), usual)


def test_tags_ask_every_word_of_an_object_for_what_it_is() -> None:
    specs = draw_specs(np.random.default_rng(6), 64)
    tokens = torch.from_numpy(Tokens()([write_caption(specs[row], 104729 * row) for row in range(64)]))
    tags = Tags()
    things, clip = (torch.from_numpy(part) for part in tag_targets(specs))
    # Only the two words of each object are used.
    assert torch.isin(tokens, tags.object_words).sum(1).tolist() == (2 * specs.count).tolist()
    # The features say one colour for every word; the colour of the first object counts twice, for both of its words.
    features = torch.zeros(1, tokens.shape[1], tags.things.in_features)
    with torch.no_grad():
        tags.things.weight.zero_()
        tags.things.bias.zero_()
        tags.clip.weight.zero_()
        tags.clip.bias.zero_()
    loss, _ = tags(features, tokens[:1], things[:1], clip[:1])
    uniform = sum(np.log(size) for size in (*tags.sizes, *tags.clip_sizes))
    assert loss.item() == pytest.approx(uniform, rel=1e-5)
    with torch.no_grad():
        tags.things.bias[17 + specs.colours[0, 0]] = 50.0
    told, _ = tags(features, tokens[:1], things[:1], clip[:1])
    wrong = (specs.count[0] - 1) / specs.count[0]
    assert told.item() == pytest.approx(uniform - np.log(8) + 50.0 * wrong, rel=1e-4)
