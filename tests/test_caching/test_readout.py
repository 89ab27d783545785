"""A computed step reads all its measurements to the host at once, and detects non-finite ones."""

from __future__ import annotations

import math

import pytest
import torch

from opensora_adacache.caching.readout import Readout, read


def test_every_part_goes_back_to_its_place():
    assert read((), None, None, []) == Readout([], [], [], set())
    assert read((), None, None, [torch.tensor([3.0]), torch.tensor([2.0])]) == Readout([], [], [3.0, 2.0], set())
    probes = [torch.ones(2, 1), torch.tensor([[2.0, 3.0], [4.0, 5.0]])]
    found = read(probes, torch.zeros(2, 1), torch.full((2,), 9.0), [torch.tensor([7.0])])
    assert found == Readout([[[1.0], [1.0]], [[2.0, 3.0], [4.0, 5.0]]], [[0.0], [0.0]], [7.0], set())


def test_rows_that_are_not_finite_are_named_and_their_numbers_are_zero():
    probes = [torch.tensor([[1.0, math.nan], [2.0, 3.0], [math.inf, 1.0]])]
    found = read(probes, None, torch.tensor([1.0, 1.0, 1.0]), [])
    assert found.broken_rows == {0, 2} and found.probes == [[[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]]]
    assert read((), None, torch.tensor([0.0, -math.inf]), []).broken_rows == {1}


def test_half_precision_and_other_devices():
    assert read([torch.ones(1, 1, dtype=torch.bfloat16)], None, None, []).probes == [[[1.0]]]
    with pytest.raises(NotImplementedError, match="meta"):  # reading is what waits for a device
        read((), None, None, [torch.ones(1, device="meta")])
