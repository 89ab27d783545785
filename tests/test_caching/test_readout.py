"""A computed step reads all its measurements to the host at once, and detects non-finite ones."""

from __future__ import annotations

import math

import pytest
import torch

from opensora_adacache.caching.readout import Readout, read
from opensora_adacache.caching.team import Team

ALONE = Team()


def test_every_part_goes_back_to_its_place():
    assert read((), None, None, [], ALONE) == Readout([], [], [], set())
    assert read((), None, None, [torch.tensor([3.0]), torch.tensor([2.0])], ALONE) == Readout([], [], [3.0, 2.0], set())
    probes = [torch.ones(2, 1), torch.tensor([[2.0, 3.0], [4.0, 5.0]])]
    found = read(probes, torch.zeros(2, 1), torch.full((2,), 9.0), [torch.tensor([7.0])], ALONE)
    assert found == Readout([[[1.0], [1.0]], [[2.0, 3.0], [4.0, 5.0]]], [[0.0], [0.0]], [7.0], set())


def test_rows_that_are_not_finite_are_named_and_their_numbers_are_zero():
    probes = [torch.tensor([[1.0, math.nan], [2.0, 3.0], [math.inf, 1.0]])]
    found = read(probes, None, torch.tensor([1.0, 1.0, 1.0]), [], ALONE)
    assert found.broken_rows == {0, 2} and found.probes == [[[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]]]
    assert read((), None, torch.tensor([0.0, -math.inf]), [], ALONE).broken_rows == {1}


def test_half_precision_and_other_devices():
    assert read([torch.ones(1, 1, dtype=torch.bfloat16)], None, None, [], ALONE).probes == [[[1.0]]]
    with pytest.raises(NotImplementedError, match="meta"):  # reading is what waits for a device
        read((), None, None, [torch.ones(1, device="meta")], ALONE)


class Listed(Team):
    """A team whose other processes measured what is listed."""

    size = 4
    num_parts = num_branches = 2

    def __init__(self, *others):
        self.others = others

    def gather(self, numbers):
        return [numbers.tolist(), *self.others]


def test_parts_are_added_up_and_branches_follow_one_another():
    # one probe with two sums of one row, one sum of the residual; output and timestep are shared
    team = Listed([10.0, 20.0, 30.0, 0.0, 0.0], [3.0, 4.0, 5.0, 0.0, 0.0], [0.5, 0.5, math.inf, 0.0, 0.0])
    found = read([torch.tensor([[1.0, 2.0]])], torch.tensor([[3.0]]), torch.tensor([7.0]), [torch.tensor([9.0])], team)
    assert found == Readout([[[11.0, 22.0], [3.5, 4.5]]], [[33.0], [0.0]], [9.0], {1})
    assert Listed([3.0, 4.0], [5.0, 6.0], [0.0, 1.0]).read(torch.tensor([[1.0, 2.0]])) == [[4.0, 6.0], [5.0, 7.0]]


def test_without_measurements_nothing_is_sent():
    class Silent(Listed):
        def gather(self, numbers):
            raise AssertionError("the output is the same in all processes")

    assert read((), None, torch.tensor([math.nan]), [torch.tensor([2.0])], Silent()).timesteps == [2.0]
