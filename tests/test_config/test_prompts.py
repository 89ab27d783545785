"""Prompt grammar and prompt files."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.config.mask_strategy import parse_mask_strategy
from opensora_adacache.config.prompts import (
    append_score,
    extract_loop,
    extract_options,
    merge_prompt,
    read_prompts,
    split_prompt,
    unused_loops,
)
from opensora_adacache.errors.family import AdaCacheError

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
        ('{"mask_strategy": "0", "mask_strategy": ""}', "bad JSON .*: the key 'mask_strategy' occurs twice"),
        ('{"a":' * 100_000, "bad JSON in prompt .* it is too large"),
        ('{"mask_strategy": ' + "9" * 5000 + "}", "bad JSON in prompt .* it is too large"),
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


def test_lines_end_at_line_ends_only(tmp_path, data_folder):
    given = read_prompts(data_folder / "cases" / "separators.txt")
    assert len(given) == 3
    path = tmp_path / "prompts.txt"
    path.write_bytes("a\u2028b\r\nc\x0bd\x0ce\rf\x85g\n\x1ch\u2029i\x1ej".encode())
    assert read_prompts(path) == ["a\u2028b", "c\x0bd\x0ce", "f\x85g", "h\u2029i\x1ej"]


def test_what_is_not_seen_is_no_prompt(tmp_path):
    """Byte order marks of files that were joined, zero-width spaces, and the end mark of DOS."""
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa\n\ufeff b\u200b\n\ufeff\n\u200b \u3000\nc\u200dd\n\x1a".encode())
    assert read_prompts(path) == ["a", "b", "c\u200dd"]


@pytest.mark.parametrize("name", ["a.csv", "a.JSONL", "a.yaml"])
def test_files_that_hold_more_than_prompts_are_refused(tmp_path, name):
    (tmp_path / name).write_text('id,prompt\n1,"a cat,\non a mat"\n')
    with pytest.raises(ValueError, match=rf"{name}' is a .* file; save the prompts as text, one per line"):
        read_prompts(tmp_path / name)


def test_a_folder_of_prompts_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder; pass a text file"):
        read_prompts(tmp_path)


def test_a_pipe_of_prompts_is_refused(tmp_path):
    """As a shell makes one for ``<(head -3 prompts.txt)``: it could be read once only."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="is no regular file; pass a text file"):
        read_prompts(tmp_path / "pipe")


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
    path.write_bytes(b"a\0b")
    with pytest.raises(ValueError, match="null characters"):
        read_prompts(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_prompts(path)


PIECES = st.sampled_from(
    list('{}|0125"; ,:') + ["|0|", "|2|", '{"mask_strategy": "0"}', "reference_path", "\n", "aesthetic score:"]
)
PROMPTS = st.one_of(st.text(), st.lists(PIECES).map("".join))


@given(PROMPTS, st.integers(1, 4))
def test_any_prompt_is_read_or_refused_in_one_line(prompt, num_loops):
    try:
        text, options = extract_options(prompt)
        assert set(options) <= {"reference_path", "mask_strategy"}
        texts, loops = split_prompt(text)
        merged = merge_prompt([append_score(part, aes=7.0) for part in texts], loops)
        assert all(extract_loop(merged, loop) for loop in range(num_loops)) or not text
        line = unused_loops(text, num_loops)
        assert line is None or len(line.splitlines()) == 1
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1


@given(st.lists(st.sampled_from(list("0123456789,;.- e") + ["nan", "inf"])).map("".join))
def test_any_mask_strategy_is_read_or_refused_in_one_line(strategy):
    try:
        assert all(0 <= mask.edit_ratio <= 1 for mask in parse_mask_strategy(strategy))
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1


@given(st.binary())
def test_any_prompt_file_is_read_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_bytes(content)
    try:
        assert all(prompt.strip() == prompt != "" for prompt in read_prompts(path))
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1
