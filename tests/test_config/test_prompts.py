"""Prompt grammar and prompt files."""

import json
from pathlib import Path

import pytest

from opensora_adacache.config.prompts import (
    append_score,
    extract_loop,
    extract_options,
    merge_prompt,
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
