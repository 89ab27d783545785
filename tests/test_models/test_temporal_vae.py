"""The temporal VAE, compared with reference vectors, and the properties that the vectors cannot show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opensora_adacache.models.temporal_vae import TemporalVAE, TemporalVAEConfig, sample_posterior

VECTORS = Path(__file__).parents[1] / "data" / "vae_temporal.safetensors"
NARROW = TemporalVAEConfig(filters=32, num_res_blocks=1, channel_multipliers=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    return load_file(VECTORS)


@pytest.fixture(scope="module")
def vae(vectors: dict[str, torch.Tensor]) -> TemporalVAE:
    model = TemporalVAE(NARROW).eval()
    model.load_state_dict({name[2:]: tensor for name, tensor in vectors.items() if name.startswith("w.")})
    return model.requires_grad_(False)


def small_vae(seed: int = 0, **structure) -> TemporalVAE:
    torch.manual_seed(seed)
    return TemporalVAE(TemporalVAEConfig(filters=8, num_res_blocks=1, num_groups=4, **structure))


@pytest.mark.parametrize("num_frames", [1, 4, 9, 17])
def test_matches_the_reference(vae, vectors, num_frames):
    mean, logvar = vae.encode(vectors[f"f{num_frames}.x"])
    torch.testing.assert_close(mean, vectors[f"f{num_frames}.mean"], rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar, vectors[f"f{num_frames}.logvar"], rtol=0, atol=1e-5)
    decoded = vae.decode(mean, num_frames)
    torch.testing.assert_close(decoded, vectors[f"f{num_frames}.decoded"], rtol=0, atol=1e-5)


def test_names_are_the_published_ones(vae, vectors):
    assert set(vae.state_dict()) == {name[2:] for name in vectors if name.startswith("w.")}


def test_published_structure_has_its_parameters_where_the_channels_change():
    with torch.device("meta"):
        names = dict(TemporalVAE().named_parameters())
    assert names["encoder.block_res_blocks.1.0.conv3.conv.weight"].shape == (256, 128, 1, 1, 1)
    assert names["encoder.block_res_blocks.3.0.conv3.conv.weight"].shape == (512, 256, 1, 1, 1)
    assert names["decoder.block_res_blocks.2.0.conv3.conv.weight"].shape == (256, 512, 1, 1, 1)
    assert names["decoder.conv_blocks.2.conv.weight"].shape == (1024, 512, 3, 3, 3)
    assert names["decoder.conv_blocks.1.conv.weight"].shape == (512, 256, 3, 3, 3)
    assert not any("conv_blocks.0" in name or "block_res_blocks.1.1.conv3" in name for name in names)


@pytest.mark.parametrize("num_frames", range(1, 10))
def test_decoding_gives_the_number_of_frames_back(num_frames):
    vae = small_vae(channel_multipliers=(1, 2, 2, 2))
    reconstruction, mean, logvar = vae(torch.randn(2, 4, num_frames, 3, 2))
    assert reconstruction.shape == (2, 4, num_frames, 3, 2)
    assert mean.shape == logvar.shape == (2, 4, vae.num_latent_frames(num_frames), 3, 2)


def test_every_downsampling_factor_works():
    for downsample, factor in (
        ((False, False, False), 1),
        ((True, False, False), 2),
        ((True, True, True), 8),
    ):
        vae = small_vae(channel_multipliers=(1, 1, 1, 1), temporal_downsample=downsample)
        reconstruction, mean, _ = vae(torch.randn(1, 4, 9, 2, 2))
        assert vae.config.time_factor == factor
        assert mean.shape[2] == -(-9 // factor)
        assert reconstruction.shape[2] == 9


def test_convolutions_see_no_later_frame():
    vae = small_vae(channel_multipliers=(1, 1, 1, 1))
    x = torch.randn(1, 4, 8, 3, 3)
    later = x.clone()
    later[:, :, 5:] += 1
    conv = vae.encoder.conv_in
    torch.testing.assert_close(conv(x)[:, :, :5], conv(later)[:, :, :5], rtol=0, atol=0)
    assert not torch.equal(conv(x)[:, :, 5], conv(later)[:, :, 5])


def test_gradients_reach_every_parameter():
    vae = small_vae(channel_multipliers=(1, 2, 2, 2))
    x = torch.randn(1, 4, 5, 3, 3)
    mean, logvar = vae.encode(x)
    z = sample_posterior(mean, logvar, torch.Generator().manual_seed(0))
    ((vae.decode(z, 5) - x).square().mean() + 1e-3 * (mean.square() + logvar.exp() - logvar).mean()).backward()
    without = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias right before a GroupNorm-free residual sum still counts; only exact zeros would be listed.
    assert without == []


def test_posterior_mean_without_generator_and_seeded_sample_with_one():
    mean, logvar = torch.randn(1, 4, 2, 3, 3), torch.zeros(1, 4, 2, 3, 3)
    assert sample_posterior(mean, logvar, None) is mean
    first = sample_posterior(mean, logvar, torch.Generator().manual_seed(3))
    again = sample_posterior(mean, logvar, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, mean)


def test_wrong_number_of_frames_is_one_clear_line(vae):
    with pytest.raises(ValueError, match="21 frames have 6 latent frames, got 5") as error:
        vae.decode(torch.zeros(1, 4, 5, 2, 2), 21)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "structure, message",
    [
        (dict(filters=16), "multiple of num_groups=32, got 16"),
        (
            dict(temporal_downsample=(True,)),
            "4 channel_multipliers need one temporal_downsample fewer, got 1",
        ),
        (dict(num_res_blocks=0), "num_res_blocks must be at least 1, got 0"),
    ],
)
def test_structure_that_does_not_fit_is_an_error(structure, message):
    with pytest.raises(ValueError, match=message):
        TemporalVAEConfig(**structure)


def test_lists_from_json_equal_tuples():
    assert TemporalVAEConfig(channel_multipliers=[1, 2, 2, 4]) == TemporalVAEConfig()
