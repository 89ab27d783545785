"""A toy run that drives a policy step by step with handmade inputs, without a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.residuals.store import ResidualStore


@pytest.fixture
def drive() -> Callable:
    """Return a function that runs a policy over inputs and returns which steps computed, for each group."""

    def run(config, inputs, outputs=None, groups=None, timesteps=None, entries=None):
        """`inputs`: what the policy sees at each step, input or first residual; `outputs`: the output of the stack.

        `entries`: input of the first blocks, whose residual is then the difference.
        """
        groups = groups or [list(range(len(inputs[0])))]
        policy, store = config.build(len(inputs), groups), ResidualStore()
        computed = [[] for _ in groups]
        for step, x in enumerate(inputs, start=1):
            time = 1000.0 * (1 - (step - 1) / len(inputs)) if timesteps is None else timesteps[step - 1]
            first = x if entries is None else x - entries[step - 1]
            timestep, size = torch.full((len(x),), time), (1, x.shape[1])
            view = StackView(step, x, timestep, 1, size, first, lambda x=x: x, store, time=time)
            decided = policy.decide(view)
            for group, did in enumerate(decided):
                if did:
                    computed[group].append(step)
            rows = sorted(row for group, did in zip(groups, decided, strict=True) if did for row in group)
            if rows:
                out = x if outputs is None else outputs[step - 1]
                everything = len(rows) == len(x)
                index = None if everything else torch.tensor(rows)
                policy.observe_output(view, out if everything else out[rows], index)
                policy.end_computed_step(step, decided, [sums.tolist() for sums in policy.take_measurements()])
        return computed if len(groups) > 1 else computed[0]

    return run


@pytest.fixture
def line() -> Callable:
    """Return a function that converts numbers per step into one-number inputs [R, 1, 1]."""

    def make(*rows):
        return [torch.tensor(values, dtype=torch.float32)[:, None, None] for values in zip(*rows, strict=True)]

    return make
