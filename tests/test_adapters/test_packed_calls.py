"""Cosmos 3, whose calls hold one video as a sequence: without noise, and after videos that condition it."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.trace import computed_steps

STEPS = 7
ONES = AdaCacheConfig({1.0: 1})


def make(tiny, **changes):
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.Cosmos3OmniTransformer(**tiny.config, **changes).eval()
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


@pytest.fixture
def call(tiny_models):
    """What all calls share, for sequences of text and a video."""
    tiny = tiny_models["cosmos-3"]
    return {**tiny.shared, "input_ids": tiny.text(0)["input_ids"][0], "return_dict": False}


def sample(model, x, step):
    """Denoise `x` with what `step` makes of the model's output for `x` and a timestep."""
    for t in torch.linspace(1000, 1000 / STEPS, STEPS):
        with torch.no_grad(), model.cache_context("cond"):
            x = x - step(x, t) / STEPS
    return x


def check(model, make_video):
    plain = make_video()
    for config, steps in ((ONES, [*range(1, STEPS + 1)]), (StaticConfig(interval=3), [1, 4, 7])):
        with apply_cache(model, config, STEPS) as session:
            found = make_video()
            assert torch.equal(found, plain) is (config is ONES) and computed_steps(session.trace) == steps
            assert torch.equal(make_video(), found)
    assert torch.equal(make_video(), plain)


def test_a_video_without_noise(tiny_models, call):
    """The actions between finished frames are looked for, so that only the actions have a timestep."""
    tiny = tiny_models["cosmos-3"]
    model = make(tiny, action_gen=True, action_dim=4, num_embodiment_domains=2)
    length, actions = call["sequence_length"], torch.arange(3)
    call |= {
        "position_ids": torch.arange(length + 3).expand(3, -1),
        "sequence_length": length + 3,
        "vision_tokens": [tiny.latents(0)],
        "vision_timesteps": torch.zeros(0),
        "vision_mse_loss_indexes": actions[:0],
        "vision_noisy_frame_indexes": [actions[:0]],
        "action_token_shapes": [(3, 1, 1)],
        "action_sequence_indexes": length + actions,
        "action_mse_loss_indexes": length + actions,
        "action_noisy_frame_indexes": [actions],
        "action_domain_ids": [actions[:1]],
    }

    def step(x, t):
        return model(**call, action_tokens=[x], action_timesteps=t.expand(3))[2][0]

    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    check(model, lambda: sample(model, x, step))
    with apply_cache(model, ONES, STEPS), pytest.raises(ValueError, match="this call gives no vision_timesteps"):
        model(**call)


@pytest.mark.parametrize("frames", [4, 2], ids=["of-the-same-size", "of-another-size"])
def test_a_video_after_one_that_controls_it(tiny_models, call, frames):
    """A clean video comes first in the sequence; the model returns outputs for both."""
    tiny = tiny_models["cosmos-3"]
    model = make(tiny)
    control, x = tiny.latents(1)[:, :, :frames], tiny.latents(0)
    text, (shape,) = call["und_len"], call["vision_token_shapes"]
    size, before = x.shape[2] * 16, frames * 16
    assert shape == (x.shape[2], 4, 4)
    target = torch.arange(text + before, text + before + size)
    call |= {
        "position_ids": torch.arange(text + before + size).expand(3, -1),
        "sequence_length": text + before + size,
        "vision_token_shapes": [(frames, 4, 4), shape],
        "vision_sequence_indexes": torch.arange(text, text + before + size),
        "vision_mse_loss_indexes": target,
        "vision_noisy_frame_indexes": [torch.arange(0), torch.arange(x.shape[2])],
    }

    def step(x, t):
        outputs = model(**call, vision_tokens=[control, x], vision_timesteps=t.expand(size))[0]
        assert [output.shape[-3] for output in outputs] == [frames, x.shape[2]]
        return outputs[-1]

    check(model, lambda: sample(model, x, step))
    with apply_cache(model, AdaCacheConfig({1e9: 3, 1e10: 1}, corrector=0.5), STEPS, scheduler="rectified flow"):
        assert sample(model, x, step).isfinite().all()
