"""The grammar of mask strategies."""

import json
from pathlib import Path

import pytest

from opensora_adacache.config.mask_strategy import MaskStrategy, parse_mask_strategy

CASES = json.loads((Path(__file__).parents[1] / "data" / "prompt_cases.json").read_text())


@pytest.mark.parametrize("strategy, groups", CASES["parse_mask_strategy"])
def test_parse_mask_strategy_matches_the_reference(strategy, groups):
    assert parse_mask_strategy(strategy) == [MaskStrategy(*group) for group in groups]


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
