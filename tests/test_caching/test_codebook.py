"""Codebooks: which are valid, and the rate of a distance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.codebook import check_codebook, rate_of

codebooks = st.dictionaries(st.floats(0, 10), st.integers(1, 20), min_size=1).map(
    lambda book: dict(sorted(book.items()))
)


@given(codebooks, st.floats(0, 20))
def test_rate_is_that_of_the_first_threshold_above(codebook, distance):
    check_codebook(codebook)
    above = [rate for threshold, rate in codebook.items() if distance < threshold]
    assert rate_of(distance, codebook) == (above[0] if above else list(codebook.values())[-1])


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.floats(0, 2), st.floats(0, 2))
def test_falling_rates_never_give_a_larger_distance_a_larger_rate(rates, one, other):
    codebook = {index / 5: rate for index, rate in enumerate(sorted(rates, reverse=True), start=1)}
    assert rate_of(min(one, other), codebook) >= rate_of(max(one, other), codebook)


@pytest.mark.parametrize(
    ("codebook", "message"),
    [
        ({}, "at least one threshold"),
        ([(0.1, 2)], "must map"),
        ({0.2: 3, 0.1: 1}, "thresholds must rise, got 0.1 after 0.2"),
        ({0.1: 0}, "rates must be whole numbers of at least 1, got 0 at threshold 0.1"),
        ({0.1: 2.5}, "got 2.5"),
        ({0.1: True}, "got True"),
        ({float("nan"): 2}, "finite numbers, got nan"),
        ({"a": 2}, "finite numbers, got 'a'"),
    ],
)
def test_bad_codebooks(codebook, message):
    with pytest.raises(ValueError, match=message):
        check_codebook(codebook)
