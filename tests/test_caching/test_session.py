"""What a session shows to a policy and to an adapter."""

from __future__ import annotations

import torch

from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.session import CacheSession


def test_a_timestep_from_the_cpu_is_known_as_a_number_and_lies_where_the_rows_are():
    """As with offloading, where a hook moves the arguments of the model after the session has seen them."""
    session, x = CacheSession(StaticConfig(), 3, branches_in_batch=1), torch.empty(1, 4, 2, device="meta")
    with session.model_call(x, torch.tensor([900.0])):
        assert session.timestep.device == x.device and session.time == 900.0
        session.decide(
            StackView(session.step, x, session.timestep, 1, (2, 2), None, lambda: x, session.store, time=session.time)
        )
    assert [record.computed for record in session.trace] == [True]
