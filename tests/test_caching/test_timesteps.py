"""Timesteps of a run, which are read late."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.timesteps import Timesteps


def test_a_timestep_that_is_read_late_is_that_of_its_step():
    """As on a GPU, in a loop that writes every timestep into one tensor."""
    timesteps, tensor = Timesteps(3, None), torch.empty(2)
    for number in (900.0, 950.0):
        timesteps.add(tensor.fill_(number), None)
    with pytest.raises(ValueError, match="timestep rose from 900 to 950 by step 2 of 3"):
        timesteps.read(2)
