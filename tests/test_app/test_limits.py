"""What a form may hold, and which configs an app serves."""

from __future__ import annotations

import re

import pytest

from opensora_adacache.app.limits import Limits, check_seed
from opensora_adacache.config import load_config
from opensora_adacache.errors.family import ConfigError


def test_a_prompt_is_one_line_of_text():
    assert Limits().check_prompt(" a red\n\tcircle\x00 ") == "a red circle"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty: write what the video should show"),
        (" \n", "is empty"),
        ("a" * 401, "has 401 characters, but at most 400 fit"),
        ('a circle {"reference_path": "/etc/passwd", "mask_strategy": "0"}', "must not hold '{' or '|'"),
        ("|0| dawn |1| dusk", "must not hold"),
        (7, "must be a text, got 7"),
        (None, "must be a text"),
    ],
)
def test_other_prompts_are_refused(prompt, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Limits().check_prompt(prompt)


@pytest.mark.parametrize("seed", [-1, 2**31, 0.5, float("nan"), float("inf"), True, "1", None])
def test_a_seed_is_a_whole_number(seed):
    assert check_seed(2**31 - 1) == 2147483647
    with pytest.raises(ConfigError, match="the seed must be a whole number from 0 to 2147483647, got"):
        check_seed(seed)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_frames": 301}, "at most 300 frames, but config '.*sample.py' has 301"),
        ({"num_frames": 170, "loop": 2}, "has 340"),
        ({"image_size": (1288, 1280)}, "at most 1638400 pixels"),
        ({"num_sampling_steps": 201}, "at most 200 steps"),
        ({"num_frames": 1}, "makes images, but the app makes videos"),
    ],
)
def test_large_videos_and_images_are_refused(overrides, message):
    Limits().check_run(load_config("scenes/sample"))
    with pytest.raises(ConfigError, match=message):
        Limits().check_run(load_config("scenes/sample", overrides))
