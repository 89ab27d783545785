"""The cleaning of prompts, compared with the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opensora_adacache.models.cleaning import clean_prompt

CASES = json.loads((Path(__file__).parents[1] / "data" / "text_cleaning.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("prompt, cleaned", CASES, ids=range(len(CASES)))
def test_matches_the_reference(prompt, cleaned):
    assert clean_prompt(prompt) == cleaned


@pytest.mark.parametrize("prompt", ["clip.mp4", "https://example.com/a", "/a/b/c.txt", "<?xml version='1.0'?><a>b</a>"])
def test_prompts_that_look_like_files_or_markup_raise_no_warning(prompt, recwarn):
    clean_prompt(prompt)
    assert not recwarn.list
