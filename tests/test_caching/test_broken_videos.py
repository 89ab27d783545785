"""Videos whose numbers break within a run: they compute every step from then on, and the others do not notice."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.errors.family import AdaCacheWarning

NUM_STEPS = 12


def run(config, broken=(), step_of_break=4):
    """Return the computed steps of two videos in a batch, or of both together if they decide together."""
    session = CacheSession(config, NUM_STEPS, branches_in_batch=1)
    numbers = torch.Generator().manual_seed(0)
    for step in range(1, NUM_STEPS + 1):
        x, change = (torch.randn(2, 4, 3, generator=numbers) for _ in range(2))
        if step == step_of_break:
            change[list(broken)] = float("nan")
        with session.model_call(x, torch.full((2,), 1000.0 - step)):
            view = StackView(step, x, session.timestep, 4, (1, 1), None, lambda x=x: x, session.store)

            def compute(x, rows, change=change):
                out = x + (change if rows is None else change[rows])
                session.keep_residual(out, x, rows)
                return out

            session.correct(session.run_stack(view, compute, session.add_residual))
    return [[record.step for record in trace if record.computed] for trace in session.traces]


@pytest.mark.parametrize("broken", [[0], [0, 1]])
def test_a_budget_does_not_end_the_run_of_a_broken_video(broken):
    with pytest.warns(AdaCacheWarning, match="not finite at step 4 of 12"):
        assert run(ForecastCacheConfig(computed_steps=6), broken) == [list(range(1, 13))]


def test_a_broken_video_takes_nothing_from_a_shared_budget():
    config = ForecastCacheConfig(computed_steps=6, budget_over="batch", decision="sample")
    healthy = run(config)
    assert sum(map(len, healthy)) == 12
    with pytest.warns(AdaCacheWarning, match="not finite"):
        broken, other = run(config, [0])
    assert broken == list(range(1, 13))
    assert len(other) >= 6
