"""A policy's schedule without a model: what it computes if nothing changes from step to step."""

from __future__ import annotations

from dataclasses import replace

import torch

from opensora_adacache.caching.contract import CacheConfig, StackView
from opensora_adacache.caching.session import CacheSession

TOKENS = 64


def fewest_steps(config: CacheConfig, num_sampling_steps: int) -> int | None:
    """Return the smallest number of steps that a policy can compute in a run of n steps; None if it does not tell.

    The policy decides about tokens that never change, so it skips whatever its settings let it skip.

    >>> from opensora_adacache.caching.adacache import AdaCacheConfig
    >>> fewest_steps(AdaCacheConfig({0.1: 6, 1.0: 1}), 4), fewest_steps(AdaCacheConfig({0.1: 6, 1.0: 1}), 30)
    (4, 8)
    """
    fixed, lenient = config.fixed_steps(num_sampling_steps), config.most_lenient()
    if fixed is not None or lenient is None:
        return None if fixed is None else len(fixed)
    lenient = replace(lenient, guidance_reuse=None)  # it has no say in which steps compute
    session = CacheSession(lenient, num_sampling_steps, branches_in_batch=1)
    x, num_computed = torch.ones(1, TOKENS, 1), 0
    for step in range(1, num_sampling_steps + 1):
        timestep = torch.tensor([1000.0 * (1 - (step - 1) / num_sampling_steps)])
        with session.model_call(x, timestep):
            view = StackView(step, x, timestep, TOKENS, (1, 1), x, lambda: x, session.store, time=session.time)
            if session.decide(view).computes:
                num_computed += 1
                if lenient.probe is not None:
                    session.observe("probe", x, TOKENS)
                session.keep_residual(2 * x, x, None)
                session.observe_output(view, 2 * x, None)
            session.correct(x)
    return num_computed
