"""Latents of references: only the parts that mask strategies use are encoded, with the values of the whole video."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_adacache.config import load_config
from opensora_adacache.config.mask_strategy import parse_mask_strategy
from opensora_adacache.errors.family import ConfigError, MediaError
from opensora_adacache.generation.loading import load_vae
from opensora_adacache.generation.masks import apply_mask_strategy
from opensora_adacache.generation.reference_latents import check_references, encode_references
from opensora_adacache.media.reading import read_reference
from opensora_adacache.media.writing import write_image, write_video

NUM_FRAMES, SIZE = 60, (32, 32)  # 3 chunks of 17 frames and 9 frames: 5 + 5 + 5 + 3 latents


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(tiny_config)

    def configure(**overrides):
        return load_config(
            path, {"prompt": ["a"], "save_dir": "out", "image_size": SIZE, "num_frames": 34, **overrides}
        )

    return configure


@pytest.fixture(scope="module")
def encode(run):
    vae = load_vae(run().vae, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        yield lambda frames: vae.encode(frames[None])[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(3, NUM_FRAMES, 4, 4, generator=generator).mul(2).sub(1)
    frames = torch.nn.functional.interpolate(frames.transpose(0, 1), SIZE).transpose(0, 1)
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, 8)


STARTS = st.integers(-18, 17)


@settings(max_examples=10)
@given(STARTS, st.integers(-10, 9), st.integers(1, 12), st.sampled_from([None, 5]))
def test_a_clip_gets_what_the_whole_video_would_give_it(run, encode, clip, start, target, length, align):
    config = run(align=align)
    masks = parse_mask_strategy(f"0,0,{start},{target},{length},0.3")
    z, expected = torch.zeros(1, 4, 10, 4, 4), torch.zeros(1, 4, 10, 4, 4)
    with torch.no_grad():
        references = encode_references([clip], masks, config, encode)
        whole = encode(read_reference(clip, SIZE))
    assert whole.shape[1] == config.latents_of(NUM_FRAMES) == 18
    mask = apply_mask_strategy(z, [references], [masks], align=align)
    assert torch.equal(mask, apply_mask_strategy(expected, [[whole]], [masks], align=align))
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-5)


def test_chunks_that_nothing_uses_are_not_encoded(run, encode, clip):
    seen = []

    def watch(frames):
        seen.append(frames.shape[1])
        return encode(frames)

    (latents,) = encode_references([clip], parse_mask_strategy("0,0,6,0,2;0,0,-1"), run(), watch)
    assert seen == [17, 9]
    assert latents.shape[1] == 18
    assert latents[:, :5].count_nonzero() == latents[:, 10:15].count_nonzero() == 0
    assert encode_references([clip, clip], parse_mask_strategy("0,1,0,0,1,1"), run(), watch)[1].numel() == 0
    assert seen == [17, 9]


def test_a_video_is_decoded_as_far_as_it_is_used(run, encode, clip, tmp_path):
    """The index comes first, so the beginning of a truncated file is usable, but not its end."""
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    masks = parse_mask_strategy("0")
    check_references([cut], masks, run(align=5))
    (latents,) = encode_references([cut], masks, run(align=5), encode)
    torch.testing.assert_close(latents, encode(read_reference(clip, SIZE)[:, :17]), rtol=0, atol=1e-5)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(MediaError, match="text.mp4' cannot be read"):
        check_references([text], masks, run())


@pytest.mark.parametrize("align", [None, 5])
def test_starts_behind_the_end_are_refused(run, encode, clip, align):
    for start in (18, 40, -19):
        with pytest.raises(ConfigError, match=rf"{start}.* 18 latents"):
            encode_references([clip], parse_mask_strategy(f"0,0,{start}"), run(align=align), encode)
        with pytest.raises(ConfigError, match=rf"reference '.*clip.mp4': .*{start}.* 18 latents"):
            check_references([clip], parse_mask_strategy(f"0;0,0,{start}"), run(align=align))


def test_images_have_one_latent(run, encode, tmp_path):
    path = write_image(tmp_path / "a.png", torch.zeros(3, *SIZE))
    (latents,) = encode_references([path], parse_mask_strategy("0,0,-1"), run(align=5), encode)
    assert latents.shape == (4, 1, 4, 4)
    with pytest.raises(ConfigError, match=r"reference '.*a.png': .* has reference_start 1, but there are 1 latents"):
        check_references([path], parse_mask_strategy("0,0,1"), run())
