"""Prompt grammar, prompt files and mask strategies."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.config.prompts import (
    MaskStrategy,
    append_score,
    apply_mask_strategy,
    extract_loop,
    extract_options,
    find_nearest_point,
    merge_prompt,
    parse_mask_strategy,
    read_prompts,
    split_prompt,
)

CASES = json.loads((Path(__file__).parents[1] / "data" / "prompt_cases.json").read_text())


@pytest.mark.parametrize("case", CASES["append_score"])
def test_append_score_matches_the_reference(case):
    assert append_score(*case[:-1]) == case[-1]


@pytest.mark.parametrize("prompt, texts, loops", CASES["split_prompt"])
def test_split_prompt_matches_the_reference(prompt, texts, loops):
    assert split_prompt(prompt) == (texts, loops)


@pytest.mark.parametrize("texts, loops, merged", CASES["merge_prompt"])
def test_merge_prompt_matches_the_reference(texts, loops, merged):
    assert merge_prompt(texts, loops) == merged


@pytest.mark.parametrize("prompt, loop, text", CASES["extract_loop"])
def test_extract_loop_matches_the_reference(prompt, loop, text):
    assert extract_loop(prompt, loop) == text


@pytest.mark.parametrize("strategy, groups", CASES["parse_mask_strategy"])
def test_parse_mask_strategy_matches_the_reference(strategy, groups):
    assert parse_mask_strategy(strategy) == [MaskStrategy(*group) for group in groups]


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


def test_merge_is_the_inverse_of_split():
    prompt = "|0|a|b, either|3|c"
    assert merge_prompt(*split_prompt(prompt)) == prompt
    assert merge_prompt(*split_prompt("plain | text")) == "plain | text"


@pytest.mark.parametrize("prompt", ["|1| a", "|0| a |0| b", "|0| a |3| b |2| c", "|0| a |2| ", "|0|"])
def test_loops_that_make_no_sense_are_refused(prompt):
    with pytest.raises(ValueError, match="loop") as caught:
        split_prompt(prompt)
    assert prompt.strip() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_taken_off_the_text():
    text, options = extract_options('|0| a |2| b{"reference_path": "a{1}.png;b.mp4", "mask_strategy": "0;1,1"}')
    assert text == "|0| a |2| b"
    assert options == {"reference_path": "a{1}.png;b.mp4", "mask_strategy": "0;1,1"}


@pytest.mark.parametrize(
    "options, reason",
    [
        ('{"mask_strategy": "0"', "bad JSON"),
        ("{0}", "bad JSON"),
        ('{"mask_strategy": "0"} and more', "bad JSON"),
        ('{"mask_stratgy": "0"}', "unknown key 'mask_stratgy'"),
        ('{"mask_strategy": 0}', "must be a string"),
    ],
)
def test_bad_options_name_the_prompt_on_one_line(options, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        extract_options("a cat\non a mat " + options)
    assert "a cat on a mat" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "strategy, group",
    [
        ("0;", "''"),
        ("0;a", "'a'"),
        ("0,0,0,0,1,0,7", "'0,0,0,0,1,0,7'"),
        ("0;1,,0", "'1,,0'"),
        ("0,0.5", "'0,0.5'"),
        ("-1", "'-1,0,0,0,1,0'"),
        ("0,-1", "'0,-1,0,0,1,0'"),
        ("0,0,0,0,0", "'0,0,0,0,0,0'"),
        ("0,0,0,0,1,1.5", "'0,0,0,0,1,1.5'"),
        ("0,0,0,0,1,nan", "'0,0,0,0,1,nan'"),
    ],
)
def test_bad_mask_strategy_names_the_group(strategy, group):
    with pytest.raises(ValueError, match="mask strategy") as caught:
        parse_mask_strategy(strategy)
    assert group in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_prompt_files_are_read_by_range(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffa cat\n\n  a dog \r\nünï\n", encoding="utf-8")
    assert read_prompts(path) == ["a cat", "a dog", "ünï"]
    assert read_prompts(path, 1) == ["a dog", "ünï"]
    assert read_prompts(str(path), 0, 1) == ["a cat"]
    assert read_prompts(path, 2, 100) == ["ünï"]


@pytest.mark.parametrize("start, end", [(3, None), (0, 0), (2, 1), (-1, None), (0, -1)])
def test_a_range_without_prompts_is_refused(tmp_path, start, end):
    path = tmp_path / "prompts.txt"
    path.write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match="3 prompts"):
        read_prompts(path, start, end)


def test_bad_prompt_files_are_refused(tmp_path):
    path = tmp_path / "prompts.txt"
    with pytest.raises(FileNotFoundError, match="prompts.txt"):
        read_prompts(path)
    path.write_text(" \n\n")
    with pytest.raises(ValueError, match="empty"):
        read_prompts(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_prompts(path)
