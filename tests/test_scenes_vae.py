"""The losses, batches and checks with which the bundled model's VAE is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opensora_adacache.errors.family import TrainingError
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes import windows
from opensora_adacache.scenes.batches import draw_frames
from opensora_adacache.scenes.draw import KIND_SHARES, TRAINING_SHARES
from opensora_adacache.scenes.fidelity import check_channels, check_frames, heldout_clips, psnr
from opensora_adacache.scenes.losses import Emphasis, error_of_changes, pixel_weights
from opensora_adacache.scenes.muon import Muon, orthogonalise
from opensora_adacache.scenes.recipe import Recipe, train
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import FIRST_LOGVAR, build_spatial
from opensora_adacache.scenes.structure import VAE
from opensora_adacache.scenes.temporal import build_temporal
from opensora_adacache.scenes.windows import LatentWindows

CPU = torch.device("cpu")


def test_edges_of_objects_weigh_most_and_the_background_least() -> None:
    pixels, covered = torch.full((1, 3, 16, 16), -1.0), torch.zeros(1, 1, 16, 16)
    pixels[:, :, 4:12, 4:12], covered[:, :, 4:12, 4:12] = 1.0, 1.0
    weights = pixel_weights(pixels, covered, Emphasis(objects=2.0, edges=8.0))[0, 0]
    assert weights.mean() == pytest.approx(1.0)
    corner = weights[0, 0].item()
    # Inside, at the edge, next to the edge outside, and in the ring without contrast: 1 + 2, 1 + 2 + 8, 1 + 2.
    assert [round(weights[8, x].item() / corner, 4) for x in (8, 4, 3, 2, 1)] == [3.0, 11.0, 11.0, 3.0, 1.0]


def test_only_changes_of_an_error_are_errors_of_changes() -> None:
    wrong = torch.randn(2, 1, 3, 4, 4).expand(2, 5, 3, 4, 4)
    weights = torch.ones(2, 5, 1, 4, 4)
    assert error_of_changes(wrong, weights) == 0
    # One frame of five differs by 1: two of four changes, |1| + 1² each.
    wrong = torch.zeros(1, 5, 1, 2, 2)
    wrong[:, 2] = 1.0
    assert error_of_changes(wrong, torch.ones(1, 5, 1, 2, 2)) == 1.0


def test_windows_show_objects() -> None:
    render = Renderer(CPU, 64)
    whole, covered_whole = draw_frames(np.random.default_rng(3), 6, 2, render)
    pixels, covered = draw_frames(np.random.default_rng(3), 6, 2, render, 0.5)
    assert pixels.shape == (12, 3, 32, 32) and covered.shape == (12, 1, 32, 32)
    assert covered.mean() > 1.5 * covered_whole.mean()
    assert (covered.amax((1, 2, 3)) == 1).all()
    # A window is a part of its frame.
    windows = whole[0].unfold(1, 32, 1).unfold(2, 32, 1)
    assert (windows == pixels[0][:, None, None]).all(-1).all(-1).all(0).any()


def encoded_windows() -> LatentWindows:
    """Return windows whose latents are small pictures of the clips, which needs no VAE."""

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels.flatten(0, 1), 4).unflatten(0, pixels.shape[:2]).transpose(1, 2)

    return LatentWindows(encode, Renderer(CPU, 96), Emphasis(), 2 * windows.CHUNK, seed=0)


def test_the_window_of_an_encoded_clip_stays_in_place_and_shows_an_object() -> None:
    held = encoded_windows()
    held.fill(0)
    latents, weights = held.draw(np.random.default_rng(4), 6, 12)
    assert held.held is not None
    whole, whole_weights = held.held
    assert latents.shape == (6, 3, 17, 12, 12) and weights.shape == (6, 1, 17, 12, 12)
    for window, weight in zip(latents, weights, strict=True):
        places = (whole.unfold(3, 12, 1).unfold(4, 12, 1) == window[:, :, None, None]).flatten(5).all(-1).all(1).all(1)
        assert places.any()
        clip, row, column = places.nonzero()[0].tolist()
        assert torch.equal(weight, whole_weights[clip, :, :, row : row + 12, column : column + 12])
    assert weights.mean() > 1.2 * whole_weights.mean()


def test_windows_are_the_same_filled_late_or_renewed() -> None:
    renewed, late = encoded_windows(), encoded_windows()
    renewed.fill(0)
    renewed.put(2)
    late.fill(1)
    drawn = [held.draw(np.random.default_rng(0), 4, 8) for held in (renewed, late)]
    assert all(torch.equal(*parts) for parts in zip(*drawn, strict=True))


def test_shares_are_of_all_kinds_and_add_up() -> None:
    assert list(TRAINING_SHARES) == list(KIND_SHARES)
    assert sum(TRAINING_SHARES.values()) == pytest.approx(1.0) == sum(KIND_SHARES.values())


def test_a_dead_channel_is_an_error() -> None:
    torch.manual_seed(0)
    vae = OpenSoraVAE(VAE, micro_batch_size=None).eval().requires_grad_(False)
    clips = heldout_clips(Renderer(CPU, 16), 1)
    assert check_channels(vae, clips, -float("inf")).startswith(
        f"{psnr(vae.decode(vae.encode(clips), 17).clamp(-1, 1), clips):.1f} dB"
    )
    vae.temporal_vae.post_quant_conv.conv.weight[:, 2] = 0.0
    with pytest.raises(TrainingError, match=r"channel (\d and )*2 "):
        check_channels(vae, clips, 1e-6)
    vae.temporal_vae.quant_conv.conv.bias[0] = torch.nan
    with pytest.raises(TrainingError, match="channel 0 and 1 and 2 and 3 does not"):
        check_channels(vae, clips, 1e-6)


@torch.no_grad()
def test_frames_must_survive_the_spatial_part() -> None:
    torch.manual_seed(0)
    vae, clips = build_spatial().eval(), heldout_clips(Renderer(CPU, 16), 1)
    reached = check_frames(vae, clips, -float("inf"))
    pixels = clips.transpose(1, 2).flatten(0, 1)
    made = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    assert reached == f"{psnr(made.unflatten(0, (1, -1)).transpose(1, 2), clips):.1f} dB"
    with pytest.raises(TrainingError, match=f"must reach 24.0 dB on held-out frames, but reached {reached}"):
        check_frames(vae, clips, 24.0)


def test_the_temporal_part_starts_by_keeping_every_fourth_frame() -> None:
    torch.manual_seed(0)
    temporal = build_temporal().eval().requires_grad_(False)
    # The deviation differs between channels as it does between clips.
    z = torch.randn(2, 4, 17, 6, 6) * torch.tensor([0.7, 1.0, 1.3, 1.0]).reshape(1, 4, 1, 1, 1)
    kept = z[:, :, ::4]
    mean, logvar = temporal.encode(z)
    assert (mean - kept).abs().mean() < 0.03 and logvar.max() == logvar.min() == FIRST_LOGVAR
    repeated = torch.cat([kept[:, :, :1], kept[:, :, 1:].repeat_interleave(4, 2)], 2)
    assert (temporal.decode(mean, 17) - repeated).abs().mean() < 0.05


def test_orthogonalised_matrices_keep_their_singular_vectors() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(2, 5, 9)
    turned = orthogonalise(matrices)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = left.mT @ turned @ right.mT
    # The iteration runs in bfloat16.
    assert (found - torch.diag_embed(found.diagonal(dim1=1, dim2=2))).abs().max() < 0.02
    assert 0.6 < found.diagonal(dim1=1, dim2=2).min() and found.diagonal(dim1=1, dim2=2).max() < 1.3
    torch.testing.assert_close(orthogonalise(matrices.mT), turned.mT)


def test_muon_treats_matrices_alike_alone_or_together() -> None:
    torch.manual_seed(0)
    starts, gradients = torch.randn(3, 6, 8), torch.randn(2, 3, 6, 8)
    together = [torch.nn.Parameter(start.clone()) for start in starts]
    alone = [torch.nn.Parameter(start.clone()) for start in starts]
    optimizers = [Muon(together, 0.1), *(Muon([one], 0.1) for one in alone)]
    for step in gradients:
        for parameters in (together, alone):
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
    # Orthogonal rows of length 1, scaled by 0.2 √8: about 0.2 per entry, times the rate and two similar steps.
    change = (together[0].detach() - starts[0]).square().mean().sqrt()
    assert 0.5 * 0.02 < change < 2 * 0.02 * 1.3


@pytest.mark.slow
def test_all_stages_learn_on_a_cpu(tmp_path: Path) -> None:
    train(Recipe(steps=(60, 60, 60), size=32), tmp_path, CPU, False, 0)
    for stage in ("spatial", "temporal", "transformer"):
        rows = (tmp_path / f"{stage}.csv").read_text().splitlines()[1:]
        losses = [float(row.split(",")[2]) for row in rows]
        assert losses[-1] < losses[0], stage
    assert {path.parent.name for path in (tmp_path / "weights").glob("*/config.json")} == {
        "transformer",
        "vae",
        "text_encoder",
    }


def test_the_temporal_stage_needs_the_spatial_one_alone(tmp_path: Path) -> None:
    recipe = Recipe(steps=(1, 0, 0), size=32, seed=3)
    train(replace(recipe, stages=("spatial",)), tmp_path, CPU, False, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"spatial.pt", "spatial.csv"}
    train(replace(recipe, stages=("temporal",)), tmp_path, CPU, False, 0)
    assert (tmp_path / "temporal.pt").exists() and not (tmp_path / "transformer.pt").exists()
    vae = OpenSoraVAE.from_pretrained(tmp_path / "weights" / "vae", dtype=torch.float32)
    # Without a step of training, every fourth frame is repeated.
    clips = heldout_clips(Renderer(CPU, 32), 1)
    frames = vae.decode(vae.encode(clips), 17)
    torch.testing.assert_close(frames[:, :, 5], frames[:, :, 8], atol=0.05, rtol=0.05)
