"""DiCache's combination of two residuals, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.residuals.aligned import AlignedResidual
from opensora_adacache.caching.residuals.store import ResidualStore

TIME = torch.tensor([500.0])


def full(*values):
    """One number per row as a tensor [R, N, C] of equal numbers."""
    return torch.tensor(values)[:, None, None].expand(-1, 2, 3).clone()


def computed(residual, entry, first, out, rows=None):
    residual.observe_first(first)
    x = entry + first
    residual.update(out if rows is None else out[rows], x if rows is None else x[rows], rows, 1, TIME)
    residual.observe_first(None)


def skipped(residual, entry, first, rows=None):
    residual.observe_first(first)
    x = entry + first
    out = residual.add_to(x if rows is None else x[rows], rows, 2, TIME)
    residual.observe_first(None)
    return out[:, 0, 0].tolist()


@pytest.fixture
def residual():
    """Two rows after two computed steps: the whole stack added 10 and then 14, the first blocks 1 and then 3."""
    residual = AlignedResidual(ResidualStore(), 1.5, 2, torch.device("cpu"))
    computed(residual, full(0.0, 0.0), full(1.0, 1.0), full(10.0, 10.0))
    computed(residual, full(5.0, 5.0), full(3.0, 3.0), full(19.0, 19.0))
    return residual


def test_by_hand(residual):
    # 3.5 is 1.25 times as far from 1 as 3 is: 10 + 1.25·4 = 15. 9 would be 4 times as far, clipped to 1.5: 16.
    assert skipped(residual, full(7.0, 8.0), full(3.5, 9.0)) == [22.0, 24.0]
    # 2 is half as far, clipped to 1, and −1.4 is 1.2 times as far on the other side, which norms do not see
    assert skipped(residual, full(0.0, 0.0), full(2.0, -1.4)) == pytest.approx([14.0, 14.8])
    assert residual.store.num_bytes() == 4 * 2 * 6 * 4


def test_after_one_computed_step_and_without_a_move_it_reuses():
    residual = AlignedResidual(ResidualStore(), 1.5, 1, torch.device("cpu"))
    computed(residual, full(0.0), full(1.0), full(10.0))
    assert skipped(residual, full(2.0), full(1.0)) == [12.0]  # 0 / 0
    assert skipped(residual, full(2.0), full(9.0)) == [12.0]  # 8 / 0
    computed(residual, full(0.0), full(1.0), full(11.0))
    assert skipped(residual, full(2.0), full(1.0)) == [13.0]


def test_rows_have_their_own_history(residual):
    one = torch.tensor([1])
    computed(residual, full(0.0, 0.0), full(9.0, 4.0), full(0.0, 20.0), one)
    # row 1: 14 and 20, the first blocks 3 and 4; row 0 still 10 and 14, 1 and 3
    assert skipped(residual, full(0.0, 0.0), full(3.5, 4.25)) == pytest.approx([15.0, 14 + 1.25 * 6])
    assert skipped(residual, full(0.0, 0.0), full(3.5, 4.25), one) == pytest.approx([21.5])
    residual.store.keep_rows(one)
    residual.keep_rows(one)
    assert skipped(residual, full(0.0), full(4.25)) == pytest.approx([21.5])
