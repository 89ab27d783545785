"""The sampler's timesteps, masks and generators. tests/test_adapters compares whole runs with the reference."""

from __future__ import annotations

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.schedulers import RFLOW
from opensora_adacache.schedulers.rectified_flow import FrameMask, transform_timestep


def test_timesteps_match_the_reference(data_folder):
    for name, expected in json.loads((data_folder / "rflow_timesteps.json").read_text()).items():
        steps, height, width, frames = map(int, re.findall(r"\d+", name))
        actual = RFLOW(steps).timesteps(height, width, frames)
        assert actual == pytest.approx(expected, rel=2e-6), name


@given(st.integers(1, 120), st.integers(16, 2048), st.integers(16, 2048), st.integers(1, 500), st.booleans())
def test_timesteps_fall_from_pure_noise(steps, height, width, frames, transform):
    timesteps = RFLOW(steps, use_timestep_transform=transform).timesteps(height, width, frames)
    assert timesteps[0] == 1000.0 and len(timesteps) == steps
    assert all(a > b > 0 for a, b in zip(timesteps, timesteps[1:], strict=False))


def test_first_timestep_is_not_above_noise():
    assert transform_timestep(1000.0, 64, 64, 17) <= 1000.0


def test_frame_mask_follows_the_edit_ratio():
    mask = FrameMask(torch.tensor([[0.0, 0.5, 1.0]]), 1000)
    z, noise = torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1, 1)
    z = mask.add_noise(z, 800.0, noise)
    assert z.flatten().tolist() == [0, 0, 0]
    assert mask.guided_x_mask(z.device).tolist() == [[False, False, True]] * 2
    z = mask.add_noise(z, 400.0, noise)
    assert z.flatten().tolist() == pytest.approx([0, 0.4, 0])
    assert mask.put_back(z + 1, z).flatten().tolist() == pytest.approx([0, 1.4, 1])
    again = mask.add_noise(z, 300.0, noise)
    assert torch.equal(again, z)


class _Text:
    def encode(self, prompts):
        return {"y": torch.ones(len(prompts), 1, 2, 3), "mask": torch.ones(len(prompts), 2)}

    def null(self, n):
        return torch.zeros(n, 1, 2, 3)


def _toy(z, t, y, **_):
    """A velocity that distinguishes prompt and null by y, and time by t."""
    return z * 0.1 + y.mean((1, 2, 3))[:, None, None, None, None] + t[:, None, None, None, None] / 1000


def test_guidance_and_step_lengths_by_hand():
    z = torch.zeros(1, 1, 1, 1, 1)
    out = RFLOW(2, cfg_scale=3.0, use_timestep_transform=False).sample(_toy, _Text(), z, ["a"], "cpu")
    first = 0.0 + (1 + 3 * 1) * 0.5  # v_null = t = 1, v_prompt = v_null + 1, guided = 1 + 3
    second = first + (first * 0.1 + 0.5 + 3) * 0.5
    assert out.item() == pytest.approx(second)


def test_streams_are_per_video():
    mask = torch.tensor([[0.5, 1.0], [0.2, 1.0]])
    z = torch.randn(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))

    def run(rows):
        streams = [torch.Generator().manual_seed(10 + row) for row in rows]
        sampler = RFLOW(5, use_timestep_transform=False)
        return sampler.sample(
            _toy,
            _Text(),
            z[rows],
            ["a"] * len(rows),
            "cpu",
            mask=mask[rows],
            generator=streams,
        )

    assert torch.equal(run([0, 1]), torch.cat([run([0]), run([1])]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": ["a", "b"]}, "one prompt per video, got 2 prompts for 1"),
        ({"mask": torch.ones(1, 3)}, r"mask must be \[videos, frames\] = \(1, 1\), got \(1, 3\)"),
        ({"generator": [torch.Generator()] * 2}, "one generator per video, got 2"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "z": torch.zeros(1, 1, 1, 1, 1),
        "prompts": ["a"],
        "device": "cpu",
        **change,
    }
    with pytest.raises(ValueError, match=message):
        RFLOW(2, use_timestep_transform=False).sample(_toy, _Text(), **arguments)


def test_transform_needs_sizes():
    with pytest.raises(ValueError, match=r"height, width and num_frames, got \['fps'\]"):
        RFLOW(2).sample(
            _toy,
            _Text(),
            torch.zeros(1, 1, 1, 1, 1),
            ["a"],
            "cpu",
            additional_args={"fps": torch.ones(1)},
        )


def test_the_callback_sees_every_step_and_may_end_the_run():
    z, seen = torch.zeros(1, 1, 1, 1, 1), []
    sampler = RFLOW(4, cfg_scale=3.0, use_timestep_transform=False)
    out = sampler.sample(_toy, _Text(), z, ["a"], "cpu", callback=seen.append)
    assert [(step.index, step.timestep) for step in seen] == [(0, 1000.0), (1, 750.0), (2, 500.0), (3, 250.0)]
    assert torch.equal(seen[-1].latents, out) and torch.equal(out, sampler.sample(_toy, _Text(), z, ["a"], "cpu"))
    first = (1 + 3) * 0.25  # v_null = t = 1 and v_prompt = v_null + 1
    assert seen[0].latents.item() == pytest.approx(first)

    # the rest of the flow, 0.75, at the velocity of the first step, 1 + 3
    assert seen[0].final_latents().item() == pytest.approx(first + 0.75 * 4)
    assert torch.equal(seen[-1].final_latents(), out) and seen[-1].noise_level == 0

    def stop(step):
        if step.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampler.sample(_toy, _Text(), z, ["a"], "cpu", callback=stop)


def test_final_latents_leave_kept_frames_as_they_are():
    z, seen = torch.tensor([5.0, 0.0, 0.0]).reshape(1, 1, 3, 1, 1), []
    sampler = RFLOW(4, cfg_scale=3.0, use_timestep_transform=False)
    # the second frame starts at timestep 500, its third step
    mask = torch.tensor([[0.0, 0.5, 1.0]])
    generator = torch.Generator().manual_seed(0)
    sampler.sample(_toy, _Text(), z, ["a"], "cpu", mask=mask, generator=generator, callback=seen.append)
    assert seen[0].final_latents().flatten().tolist() == pytest.approx([5, 0, 4])
    moved = [[moved for moved in step.generated.flatten().tolist()] for step in seen]
    assert moved == 2 * [[False, False, True]] + 2 * [[False, True, True]]
