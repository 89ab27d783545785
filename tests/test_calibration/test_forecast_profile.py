"""ForecastCache's profile of a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.calibration.forecast_profile import growth_profile, sensitivity_profile, weighted_sensitivity


def trace(computed):
    """Return the trace of ten steps: step → relative error for those that computed."""
    return [StepRecord(s, s in computed, computed.get(s), None, None, 1, 2, 1.0) for s in range(1, 11)]


def test_sensitivity_is_harm_per_error_with_mean_one():
    # ratios 4, 4, 4 (steps 1 to 3), 2 (measured), 1 and 1 (beyond the last)
    found = sensitivity_profile({3: 0.8, 4: 0.2, 5: 0.1}, {3: 0.2, 4: 0.1, 5: 0.1}, 6)
    assert found == pytest.approx([value / (16 / 6) for value in (4, 4, 4, 2, 1, 1)], rel=0.01)


def test_a_harm_that_is_lost_in_rounding_says_nothing():
    """Where half precision gives the same latents; a sensitivity must be above 0."""
    harm, errors = {3: 0.8, 4: 0.0, 5: 0.4}, dict.fromkeys((3, 4, 5), 0.1)
    assert sensitivity_profile(harm, errors, 5) == sensitivity_profile({3: 0.8, 5: 0.4}, errors, 5)


def test_growth_is_error_per_squared_share_of_the_run():
    # step 4: 0.2 over one step of ten, and 0.05: geometric mean 0.1 · 10²; step 8: 1.6 over four steps
    traces = [trace({1: None, 2: 0.3, 3: 0.1, 4: 0.2, 8: 1.6}), trace({1: None, 2: 0.3, 3: 0.1, 4: 0.05, 8: 1.6})]
    found = growth_profile(traces, 10)
    assert found[:4] == pytest.approx([10.0] * 4) and found[7:] == pytest.approx([10.0] * 3)


def test_between_measured_steps_it_lies_on_a_line():
    assert sensitivity_profile({3: 1.0, 5: 3.0}, {3: 1.0, 5: 1.0}, 5) == pytest.approx(
        [value / 1.6 for value in (1, 1, 1, 2, 3)], rel=0.01
    )


def test_nothing_measured():
    with pytest.raises(ValueError, match="no forecast was measured"):
        growth_profile([trace({1: None, 2: 0.1})], 10)


@given(
    st.lists(st.floats(0.1, 10), min_size=2, max_size=12),
    st.lists(st.floats(-2, 2), min_size=1, max_size=4),
    st.floats(-1, 1),
)
def test_only_ratios_of_weights_matter(sensitivity, coefficients, shift):
    found = weighted_sensitivity(sensitivity, coefficients)
    shifted = weighted_sensitivity(sensitivity, [value + shift for value in coefficients])
    assert found == pytest.approx(shifted, rel=0.02) and sum(found) / len(found) == pytest.approx(1, rel=0.01)


def test_weights_of_zero_change_nothing_but_the_mean():
    assert weighted_sensitivity([2.0, 4.0, 6.0], [0.0] * 4) == (0.5, 1.0, 1.5)
