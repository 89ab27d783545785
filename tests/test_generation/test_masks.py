"""References in the latents of a batch."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.config.mask_strategy import MaskStrategy
from opensora_adacache.generation.masks import apply_mask_strategy, find_nearest_point

CASES = json.loads((Path(__file__).parents[1] / "data" / "prompt_cases.json").read_text())


@pytest.mark.parametrize("value, point, max_value, expected", CASES["find_nearest_point"])
def test_find_nearest_point_matches_the_reference(value, point, max_value, expected):
    assert find_nearest_point(value, point, max_value) == expected


@given(st.integers(0, 60), st.integers(1, 8), st.integers(1, 61))
def test_aligned_start_is_a_multiple_that_never_leaves_the_clip(value, point, max_value):
    value = min(value, max_value - 1)
    start = find_nearest_point(value, point, max_value)
    assert start % point == 0
    assert 0 <= start < max_value
    assert abs(start - value) < point


def latents(*frames: float) -> torch.Tensor:
    """A reference [2, len(frames), 1, 1] that holds one number per latent frame."""
    return torch.tensor(frames)[None, :, None, None].expand(2, -1, 1, 1).clone()


def test_references_are_written_and_masked():
    z = torch.zeros(3, 2, 5, 1, 1)
    references = [[latents(1.0), latents(2.0, 3.0, 4.0)], [latents(5.0)], []]
    mask = apply_mask_strategy(z, references, ["0;0,1,-2,-2,9,0.3", "1", ""])
    assert z[0, 0, :, 0, 0].tolist() == [1, 0, 0, 3, 4]
    assert torch.equal(z[0, 0], z[0, 1])
    assert z[1:].count_nonzero() == 0
    assert mask.dtype == torch.float32
    torch.testing.assert_close(mask, torch.tensor([[0, 1, 1, 0.3, 0.3], [1.0] * 5, [1.0] * 5]))


def test_starts_are_aligned():
    z = torch.zeros(1, 2, 15, 1, 1)
    mask = apply_mask_strategy(z, [[latents(*range(1, 16))]], ["0,0,-1,4,20"], align=5)
    assert z[0, 0, :, 0, 0].tolist() == [0] * 5 + [11, 12, 13, 14, 15] + [0] * 5
    assert mask[0].tolist() == [1] * 5 + [0] * 5 + [1] * 5


@pytest.mark.parametrize("strategy", ["", "1", "0,0,0,0,1,1"])
def test_no_mask_where_everything_is_generated(strategy):
    z = torch.zeros(1, 2, 5, 1, 1)
    assert apply_mask_strategy(z, [[latents(1.0)]], [strategy]) is None
    assert z.count_nonzero() == 0


def test_parsed_groups_and_later_loops_apply():
    z = torch.zeros(1, 2, 5, 1, 1, dtype=torch.bfloat16)
    group = MaskStrategy(loop=2, reference=0, reference_start=-1, length=1)
    mask = apply_mask_strategy(z, [[latents(1.0, 7.0)]], [[group]], loop=2)
    assert z[0, 0, :, 0, 0].tolist() == [7, 0, 0, 0, 0]
    assert mask.tolist() == [[0, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    "strategy, reason",
    [
        ("0,1", "names reference 1"),
        ("0,0,2", "reference_start 2"),
        ("0,0,-3", "reference_start -3"),
        ("0,0,0,5", "target_start 5"),
        ("0,0,0,-6", "target_start -6"),
    ],
)
def test_a_group_beyond_the_latents_is_refused_before_anything_is_written(strategy, reason):
    z = torch.zeros(1, 2, 5, 1, 1)
    with pytest.raises(ValueError, match=reason):
        apply_mask_strategy(z, [[latents(1.0, 2.0)]], ["0;" + strategy])
    assert z.count_nonzero() == 0


def test_references_of_another_size_are_refused():
    with pytest.raises(ValueError, match="encode it at the size of the video"):
        apply_mask_strategy(torch.zeros(1, 2, 5, 3, 3), [[latents(1.0)]], ["0"])
    with pytest.raises(ValueError, match="for 2 videos, got 1 and 1"):
        apply_mask_strategy(torch.zeros(2, 2, 5, 1, 1), [[latents(1.0)]], ["0"])
