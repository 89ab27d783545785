"""Training resumes exactly, the folded normalisation changes nothing but the latents, and the shipped weights work."""

from __future__ import annotations

from pathlib import Path

import torch

from opensora_adacache.schedulers.rectified_flow import RFLOW
from opensora_adacache.shapes.dataset import heldout_prompts, make_clip, make_scene
from opensora_adacache.shapes.evaluate import WEIGHTS, ShapesModel, check_clips
from opensora_adacache.shapes.train_spatial import build_spatial
from opensora_adacache.shapes.train_temporal import SPATIAL_SCALE, normalise_spatial
from opensora_adacache.shapes.train_transformer import TransformerRecipe, train_transformer


def test_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    specs = [make_scene(0, index)[0].spec for index in range(12)]
    latents = torch.randn(12, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    recipe = TransformerRecipe(steps=4, decay_steps=2, warm_up=2, batch=2)
    whole = train_transformer(recipe, latents, specs, tmp_path / "whole", save_every=100)
    train_transformer(recipe, latents, specs, tmp_path / "parts", save_every=2, stop_after=2)
    resumed = train_transformer(recipe, latents, specs, tmp_path / "parts", save_every=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_normalisation_is_folded_exactly() -> None:
    torch.manual_seed(0)
    vae = build_spatial().eval()
    pixels = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist.mode()
        decoded = vae.decode(before).sample
        normalise_spatial(vae, before * SPATIAL_SCALE)
        after = vae.encode(pixels).latent_dist.mode()
        assert (after * SPATIAL_SCALE).mean((0, 2, 3)).abs().max() < 1e-4
        assert ((after * SPATIAL_SCALE).std((0, 2, 3)) - 1).abs().max() < 1e-4
        torch.testing.assert_close(vae.decode(after).sample, decoded, atol=1e-4, rtol=1e-4)


def test_shipped_weights_fit_in_forty_megabytes() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"transformer", "vae", "text_encoder", "tokenizer"}
    assert sum(path.stat().st_size for path in files) <= 40e6


def test_shipped_weights_do_what_heldout_prompts_ask() -> None:
    model = ShapesModel.load()
    prompts = [item for item in heldout_prompts(20) if len(item[1].objects) == 1][:4]
    scheduler = RFLOW(12, cfg_scale=3.0, use_timestep_transform=False)
    latents = model.sample_latents([text for text, _ in prompts], [1, 2, 3, 4], scheduler)
    checked = check_clips(prompts, model.decode(latents))
    for name in ("colour", "direction", "speed"):
        right, asked = (sum(getattr(c.score, part)[name] for c in checked) for part in ("right", "asked"))
        assert right >= 0.7 * asked, name


def test_shipped_vae_gives_clips_back() -> None:
    model = ShapesModel.load()
    scene, _ = make_scene(11, 3)
    clip, _ = make_clip(11, 3)
    with torch.no_grad():
        again = model.decode(model.vae.encode(clip[None]))
    assert (again[0] - clip).square().mean() < 0.02
    (checked,) = check_clips([("", scene.spec)], again)
    assert checked.score.right["colour"] == checked.score.asked["colour"]
