"""The whole VAE: sizes, chunks, checkpoint layouts. Uses tiny models in the published layout."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._dynamo.testing import CompileCounterWithBackend

from opensora_adacache.models import checkpoint
from opensora_adacache.models.temporal_vae import TemporalVAEConfig
from opensora_adacache.models.vae import SPATIAL_PREFIX, OpenSoraVAE, OpenSoraVAEConfig

LATENT_FRAMES = json.loads((Path(__file__).parents[1] / "data" / "latent_frames.json").read_text())
CONFIG = OpenSoraVAEConfig(
    temporal=TemporalVAEConfig(filters=8, num_res_blocks=1, channel_multipliers=(1, 2, 2, 2), num_groups=4),
    block_out_channels=(8, 8, 16, 16),
    layers_per_block=1,
    norm_num_groups=4,
)
# The keys of a published config.json, which names classes but no structure.
PUBLISHED_VALUES = {
    "architectures": ["VideoAutoencoderPipeline"],
    "cal_loss": False,
    "freeze_vae_2d": False,
    "from_pretrained": None,
    "micro_frame_size": 17,
    "model_type": "VideoAutoencoderPipeline",
    "scale": [3.85, 2.32, 2.33, 3.06],
    "shift": [-0.1, 0.34, 0.27, 0.98],
    "torch_dtype": "float32",
    "transformers_version": "4.36.2",
    "vae_2d": {
        "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
        "local_files_only": False,
        "micro_batch_size": 4,
        "subfolder": "vae",
        "type": "VideoAutoencoderKL",
    },
    "vae_temporal": {"from_pretrained": None, "type": "VAE_Temporal_SD"},
}


def make_vae(**options) -> OpenSoraVAE:
    torch.manual_seed(0)
    return OpenSoraVAE(CONFIG, **options).eval().requires_grad_(False)


def clip(num_frames: int, batch_size: int = 1, height: int = 16, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.rand(batch_size, 3, num_frames, height, width, generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def vae() -> OpenSoraVAE:
    return make_vae()


@pytest.fixture
def saved(vae, tmp_path) -> Path:
    vae.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@pytest.fixture
def split(vae, tmp_path) -> tuple[Path, Path]:
    """A checkpoint of the temporal part alone, and a pipeline with the spatial part as diffusers writes it."""
    checkpoint.save(
        tmp_path / "temporal",
        {name: value for name, value in vae.state_dict().items() if not name.startswith(SPATIAL_PREFIX)},
        {**CONFIG.to_dict(), "vae_2d": PUBLISHED_VALUES["vae_2d"]},
    )
    vae.spatial_vae.module.save_pretrained(tmp_path / "pipeline" / "vae")
    return tmp_path / "temporal", tmp_path / "pipeline"


@pytest.mark.parametrize("num_frames, num_latents", [(int(n), t) for n, t in LATENT_FRAMES.items()])
def test_latent_sizes_are_the_references(vae, num_frames, num_latents):
    assert vae.latent_size((num_frames, 720, 1280)) == (num_latents, 90, 160)


def test_latent_size_rounds_down_and_follows_the_structure(vae):
    assert vae.latent_size((1, 240, 426)) == (1, 30, 53)
    assert make_vae(micro_frame_size=None).latent_size((34, 8, 8)) == (9, 1, 1)


@pytest.mark.parametrize("num_frames", [1, 3, 17, 18, 25])
def test_decoding_gives_the_number_of_frames_back(vae, num_frames):
    z = vae.encode(clip(num_frames))
    assert z.shape == (1, vae.out_channels, *vae.latent_size((num_frames, 16, 24)))
    assert vae.decode(z, num_frames).shape == (1, 3, num_frames, 16, 24)


def test_sides_that_no_factor_divides_lose_the_rest(vae):
    z = vae.encode(clip(2, height=21, width=30))
    assert z.shape[-2:] == vae.latent_size((2, 21, 30))[1:] == (2, 3)
    assert vae.decode(z, 2).shape[-2:] == (16, 24)


def test_encoding_is_the_two_parts_in_turn(vae):
    x = clip(20)
    autoencoder = vae.spatial_vae.module
    frames = torch.stack([autoencoder.encode(x[:, :, i]).latent_dist.mode() * 0.18215 for i in range(20)], dim=2)
    z = torch.cat([vae.temporal_vae.encode(frames[:, :, part])[0] for part in (slice(17), slice(17, 20))], dim=2)
    shift = torch.tensor([-0.10, 0.34, 0.27, 0.98]).view(1, 4, 1, 1, 1)
    scale = torch.tensor([3.85, 2.32, 2.33, 3.06]).view(1, 4, 1, 1, 1)
    torch.testing.assert_close(vae.encode(x), (z - shift) / scale, rtol=0, atol=1e-5)

    frames = torch.cat([vae.temporal_vae.decode(z[:, :, :5], 17), vae.temporal_vae.decode(z[:, :, 5:], 3)], dim=2)
    expected = torch.stack([autoencoder.decode(frames[:, :, i] / 0.18215).sample for i in range(20)], dim=2)
    torch.testing.assert_close(vae.decode((z - shift) / scale, 20), expected, rtol=0, atol=1e-5)


def test_chunks_do_not_see_each_other(vae):
    x = clip(34)
    torch.testing.assert_close(vae.encode(x)[:, :, 5:], vae.encode(x[:, :, 17:]), rtol=0, atol=1e-6)


def test_a_video_does_not_depend_on_its_batch(vae):
    x = clip(6, batch_size=3)
    z = vae.encode(x)
    assert torch.equal(z[1:2], vae.encode(x[1:2]))
    assert torch.equal(vae.decode(z, 6)[1:2], vae.decode(z[1:2], 6))


@pytest.mark.parametrize("num_frames", [1, 18])
def test_a_frame_is_decoded_as_within_its_video(vae, num_frames):
    z = vae.encode(clip(num_frames, batch_size=2))
    video = vae.decode(z, num_frames)
    for index in {0, num_frames // 2, num_frames - 1}:
        torch.testing.assert_close(vae.decode_frame(z, num_frames, index), video[:, :, index])
    with pytest.raises(IndexError, match=f"frame {num_frames} of a video with {num_frames} frames"):
        vae.decode_frame(z, num_frames, num_frames)


@pytest.mark.parametrize("micro_batch_size", [1, 3, None])
def test_micro_batches_change_memory_only(vae, micro_batch_size):
    other = make_vae(micro_batch_size=micro_batch_size)
    x = clip(7)
    z = vae.encode(x)
    torch.testing.assert_close(other.encode(x), z, rtol=0, atol=1e-6)
    torch.testing.assert_close(other.decode(z, 7), vae.decode(z, 7), rtol=0, atol=1e-5)


def test_a_generator_draws_from_the_posterior_and_its_absence_does_not(vae):
    x = clip(5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(vae.encode(x), vae.encode(x))
    drawn = vae.encode(x, torch.Generator().manual_seed(5))
    assert torch.equal(drawn, vae.encode(x, torch.Generator().manual_seed(5)))
    assert not torch.equal(drawn, vae.encode(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_round_trip_is_bit_exact_and_initialises_nothing(vae, saved, random_fills):
    loaded = OpenSoraVAE.from_pretrained(saved)
    assert random_fills == []
    assert loaded.config == vae.config
    for name, value in vae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded.encode(clip(5)), vae.encode(clip(5)))


def test_pickled_weights_are_read_from_folder_or_file(vae, saved):
    (saved / "model.safetensors").unlink()
    torch.save({"model": vae.state_dict()}, saved / "vae.pt")
    for path in (saved, saved / "vae.pt"):
        assert torch.equal(OpenSoraVAE.from_pretrained(path).encode(clip(1)), vae.encode(clip(1)))


def test_dtype_is_cast_for_weights_inputs_and_results(saved):
    loaded = OpenSoraVAE.from_pretrained(saved, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.bfloat16}
    assert loaded.dtype == torch.bfloat16
    assert loaded.device == torch.device("cpu")
    z = loaded.encode(clip(4))
    assert z.dtype == torch.bfloat16
    assert loaded.decode(z.float(), 4).dtype == torch.bfloat16


def test_state_dict_names_are_the_published_ones(vae):
    names = set(vae.state_dict())
    assert {"shift", "scale", "temporal_vae.encoder.conv_in.conv.weight"} <= names
    assert "spatial_vae.module.decoder.mid_block.attentions.0.to_out.0.weight" in names
    assert vae.state_dict()["shift"].shape == vae.state_dict()["scale"].shape == (1, 4, 1, 1, 1)


def test_published_config_gives_the_published_structure():
    config = OpenSoraVAEConfig.from_dict(PUBLISHED_VALUES)
    assert config == OpenSoraVAEConfig() == OpenSoraVAEConfig.from_dict({})
    assert OpenSoraVAEConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    with torch.device("meta"):
        published = OpenSoraVAE(config)
    assert sum(part.numel() for part in published.spatial_vae.parameters()) == 83_653_863  # the SDXL autoencoder
    assert sum(part.numel() for part in published.temporal_vae.parameters()) == 309_687_144


def test_spatial_part_is_taken_from_elsewhere_where_it_is_missing(vae, split, random_fills):
    temporal, pipeline = split
    for spatial in (pipeline, pipeline / "vae"):
        loaded = OpenSoraVAE.from_pretrained(temporal, spatial_vae=spatial)
        assert loaded.config == CONFIG
        assert random_fills == []
        z = torch.zeros(1, 4, 2, 2, 2)
        assert torch.equal(loaded.decode(z, 5), vae.decode(z, 5))


def test_spatial_part_takes_the_type_of_the_temporal_one(split):
    temporal, pipeline = split
    file = pipeline / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    loaded = OpenSoraVAE.from_pretrained(temporal, spatial_vae=pipeline)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}


def test_missing_spatial_part_without_network_is_one_line(split, offline):
    with pytest.raises(OSError, match="has no spatial part, and the separate one cannot be loaded") as error:
        OpenSoraVAE.from_pretrained(split[0])
    assert "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers" in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_listed(saved):
    state = load_file(saved / "model.safetensors")
    del state["shift"]
    state["temporal_vae.extra"] = torch.ones(1)
    save_file(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(shift\); 1 unexpected \(temporal_vae.extra\)") as error:
        OpenSoraVAE.from_pretrained(saved)
    assert str(saved) in str(error.value)


def test_wrong_number_of_frames_is_one_clear_line(vae):
    with pytest.raises(ValueError, match="VAE: 34 frames have 10 latent frames, got 5; pass the number"):
        vae.decode(torch.zeros(1, 4, 5, 2, 2), 34)


@pytest.mark.parametrize(
    "structure, message",
    [
        (dict(shift=(1.0, 2.0)), "expected 4 values of shift, one per channel, got 2"),
        (dict(block_out_channels=(16, 32)), "multiples of norm_num_groups=32, got \\[16, 32\\]"),
        (dict(block_out_channels=()), "expected block_out_channels"),
    ],
)
def test_structure_that_does_not_fit_is_an_error(structure, message):
    with pytest.raises(ValueError, match=message):
        OpenSoraVAEConfig(**structure)


def test_one_number_stands_for_all_channels():
    config = dataclasses.replace(CONFIG, shift=0, scale=1)
    assert config.shift == (0, 0, 0, 0)
    assert OpenSoraVAE(config).dtype == torch.float32


@pytest.mark.parametrize("options", [dict(micro_frame_size=0), dict(micro_batch_size=-1)])
def test_micro_sizes_below_one_are_an_error(options):
    with pytest.raises(ValueError, match="must be at least 1, or None for no limit"):
        make_vae(**options)


def test_tiles_of_the_whole_picture_change_nothing(vae):
    z = vae.encode(clip(5, height=32, width=48))
    assert torch.equal(make_vae(tile_size=6).decode(z, 5), vae.decode(z, 5))


def test_tiles_are_decoded_alone_and_blended_linearly():
    """Two tiles of 6 of 8 latents: 2 to 6 overlap by 4, the weights of 1 latent at each edge are ramps."""
    tiled = make_vae(tile_size=6)
    frames = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    decode = tiled.spatial_vae.module.decode
    left, right = (decode(part / 0.18215).sample for part in (frames[..., :6], frames[..., 2:]))
    ramp = (torch.arange(8) + 0.5) / 8
    out = tiled.spatial_vae.decode(frames.transpose(0, 1)[None])[0].transpose(0, 1)
    pixels = {
        0: left[..., :16],
        16: (left[..., 16:24] + ramp * right[..., :8]) / (1 + ramp),
        24: (left[..., 24:40] + right[..., 8:24]) / 2,
        40: (ramp.flip(0) * left[..., 40:] + right[..., 24:32]) / (ramp.flip(0) + 1),
        48: right[..., 32:],
    }
    torch.testing.assert_close(out, torch.cat(list(pixels.values()), dim=-1), rtol=0, atol=1e-5)


def test_tiled_videos_keep_shape_and_dtype(vae):
    z = vae.encode(clip(5, height=24, width=40))
    tiled = make_vae(tile_size=2).bfloat16().decode(z, 5)
    assert tiled.dtype == torch.bfloat16 and tiled.shape == (1, 3, 5, 24, 40)
    assert torch.isfinite(tiled).all()


def test_channels_last_changes_the_layout_only(vae):
    other = make_vae().use_channels_last()
    weight = other.spatial_vae.module.decoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert other.temporal_vae.decoder.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    x = clip(7)
    z = vae.encode(x)
    torch.testing.assert_close(other.encode(x), z, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.decode(z, 7), vae.decode(z, 7), rtol=0, atol=1e-5)


@torch.no_grad()
def test_compiled_decoders_are_a_graph_each(vae):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = make_vae(micro_batch_size=17).compile_decoder(counter)
    z = vae.encode(clip(17))
    for _ in range(2):
        torch.testing.assert_close(compiled.decode(z, 17), vae.decode(z, 17), rtol=0, atol=1e-5)
    torch._dynamo.reset()
    assert counter.frame_count == 2
    assert compiled.state_dict().keys() == vae.state_dict().keys()


@pytest.mark.parametrize("name, value", [("micro_batch_size", 0), ("tile_size", 1)])
def test_sizes_that_are_too_small_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least {value + 1}, or None for no limit; got {value}"):
        make_vae(**{name: value})
