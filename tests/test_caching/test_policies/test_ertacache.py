"""ERTACache's steps and error rectification against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.ertacache import UnshiftedERTACacheConfig
from opensora_adacache.caching.residuals.rectified import RectifiedResidual
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import TaylorResidual
from opensora_adacache.calibration.planning import steps_below

CPU = torch.device("cpu")


def test_steps_by_hand(drive, line):
    # from step 1, step 2 is below 0.3 and step 3 is not; from 3, steps 4 and 5 are; nothing is known of 3 at 6
    errors = {(1, 2): 0.1, (1, 3): 0.3, (2, 3): 0.1, (3, 4): 0.2, (3, 5): 0.29, (4, 5): 0.9}
    steps = steps_below(errors, 6, 0.3)
    assert steps == (1, 3, 6)
    assert drive(UnshiftedERTACacheConfig(steps=steps), line([1.0] * 6)) == [1, 3, 6]
    assert steps_below(errors, 6, 0.0) == (1, 2, 3, 4, 5, 6)


def test_rectified_by_hand():
    config = UnshiftedERTACacheConfig(steps=(1, 3), slopes=(0.0, 0.25, 0.0), offsets=(0.0, 1.0, 0.0))
    residual = config.build_residual(ResidualStore(), 2, CPU)
    assert isinstance(residual, RectifiedResidual)
    x, time = torch.full((2, 1, 1), 2.0), torch.tensor([500.0])
    residual.update(x + torch.tensor([6.0, 10.0])[:, None, None], x, None, 1, time)
    # reuse gives 4 + 6 = 10 and 4 + 10 = 14; the line takes off 0.25·10 + 1 and 0.25·14 + 1
    assert residual.add_to(2 * x, None, 2, time).flatten().tolist() == [6.5, 9.5]
    assert residual.add_to(2 * x[:1], torch.tensor([1]), 2, time).flatten().tolist() == [9.5]
    assert residual.add_to(2 * x, None, 3, time).flatten().tolist() == [10.0, 14.0]


def test_without_lines_it_reuses():
    residual = UnshiftedERTACacheConfig(steps=(1, 3)).build_residual(ResidualStore(), 2, CPU)
    assert type(residual) is TaylorResidual


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slopes": (0.1,)}, "slopes and offsets must have the same length, got 1 and 0"),
        ({"slopes": ("a",), "offsets": (0.0,)}, "slopes must be numbers, one for each step"),
        ({"steps": (2, 3)}, "steps must be rising whole numbers that begin with 1"),
        (
            {"slopes": (0.1,), "offsets": (0.0,)},
            "slopes and offsets have 1 value each, but the run has 3 steps: calibrate them for this number of steps",
        ),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        UnshiftedERTACacheConfig(**({"steps": (1, 3)} | values)).check_run(3, 4)
