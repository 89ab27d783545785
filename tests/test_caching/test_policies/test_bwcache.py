"""BWCache against schedules worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.dry_run import fewest_steps
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.session import CacheSession


def drive(config, blocks, num_rows=1, held=None):
    """Run a policy over the outputs of blocks, numbers [steps][blocks][rows]; return its session.

    The bytes that are held at the end of each step are added to a list.
    """
    session = CacheSession(config, len(blocks), branches_in_batch=1)
    if held is not None:
        session.on_step = lambda step: held.append(session.cache_bytes())
    x = torch.ones(num_rows, 1, 1)
    for step, outputs in enumerate(blocks, start=1):
        time = torch.full((num_rows,), 1000.0 - step)
        with session.model_call(x, time):
            view = StackView(step, x, time, 1, (1, 1), None, lambda: x, ResidualStore())
            split = session.decide(view)
            if split.computes:
                rows = slice(None) if split.rows is None else split.rows
                for block, values in enumerate(outputs):
                    session.observe(f"{block}.s", torch.tensor(values)[:, None, None][rows], 1)
                session.keep_residual(x[rows], x[rows], split.rows)
            session.correct(x)
    return session


def schedule(session, row=0):
    return [record.step for record in session.traces[row] if record.computed]


def steps_of(changes):
    """Outputs of two blocks: one is always 1, the other grows by a fraction at each step after the first."""
    value, outputs = 1.0, [[[1.0], [1.0]]]
    for change in changes:
        value *= 1 + change
        outputs.append([[1.0], [value]])
    return outputs


def test_by_hand():
    # mean changes of the two blocks: 0.2 and 0.15 at steps 2 and 3, 0.1 at step 4, which is below 0.14. Of 20 steps two
    # in a row are skipped, 5 and 6, and every third computes; the last two (half of four) compute too.
    config = BWCacheConfig(threshold=0.14)
    held = []
    session = drive(config, steps_of([0.4, 0.3, 0.2, *[9.0] * 16]), held=held)
    assert schedule(session) == [1, 2, 3, 4, 7, 10, 13, 16, 19, 20]
    distances = [record.distance for record in session.trace]
    assert distances[:4] == [None, *map(pytest.approx, (0.2, 0.15, 0.1))] and distances[4:] == [None] * 16
    # the residual and two outputs, which the first computed step after the trigger drops
    assert held == [12] * 6 + [4] * 13 + [0]


def test_every_step_computes_until_the_trigger():
    moving = steps_of([0.4] * 9)
    assert schedule(drive(BWCacheConfig(threshold=0.14), moving)) == [*range(1, 11)]
    assert schedule(drive(BWCacheConfig(threshold=1e-9), moving)) == [*range(1, 11)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [1, 2, 4, 6, 8, 10]),  # one step of ten at a time
        ({"skipped_fraction": 0.3}, [1, 2, 6, 10]),
        ({"skipped_fraction": 0.0, "kept_fraction": 0.0}, [1, 2, 4, 6, 8, 10]),
        ({"skipped_fraction": 1.0, "kept_fraction": 0.0}, [1, 2]),
        ({"skipped_fraction": 1.0, "kept_fraction": 1.0}, [1, 2, 9, 10]),
    ],
)
def test_the_pattern_after_a_trigger_at_step_2(values, expected):
    assert schedule(drive(BWCacheConfig(**values), steps_of([0.0] * 9))) == expected


def test_published_share_of_reused_steps():
    """A trigger at step 6 of 30 reuses 16 of 29 steps, 55 %; 59 % were published as the mean for δ = 0.25."""
    changes = [0.9, 0.8, 0.7, 0.6, 0.2]
    session = drive(BWCacheConfig(threshold=0.25), steps_of(changes + [0.9] * 24))
    assert 30 - len(schedule(session)) == 16 and schedule(session)[:6] == [1, 2, 3, 4, 5, 6]


def test_videos_are_triggered_by_themselves():
    still, moving = [[1.0, 2.0**step] for step in range(10)], [[1.0, 1.0]] * 10
    session = drive(BWCacheConfig(decision="sample"), [[a, b] for a, b in zip(still, moving, strict=True)], 2)
    assert schedule(session, 0) == [1, 2, 4, 6, 8, 10]
    assert schedule(session, 1) == [*range(1, 11)]
    assert session.traces[0][5].distance is None and session.traces[1][5].distance == pytest.approx(0.5)


def test_what_is_known_before_a_run():
    assert fewest_steps(BWCacheConfig(), 20) == 8  # 1, 2, 5, 8, 11, 14, 17 and 20
    with pytest.raises(ValueError, match="layers must lie in 0..3, got \\(2, 4\\)"):
        BWCacheConfig(layers=(4, 2)).check_run(30, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": -1.0}, "threshold must be above 0"),
        ({"skipped_fraction": 1.5}, "skipped_fraction must be a fraction from 0 to 1, got 1.5"),
        ({"kept_fraction": "x"}, "kept_fraction must be a fraction from 0 to 1, got 'x'"),
        ({"layers": ()}, "layers must be layers, counted from 0, or None for all"),
        ({"layers": (-1,)}, "layers must be layers, counted from 0, or None for all"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        BWCacheConfig(**values)
