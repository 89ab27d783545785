"""Foresight against decisions worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.contract import Site, StackView
from opensora_adacache.caching.policies.foresight import ForesightConfig
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.caching.trace import work_done

BLOCKS = tuple(Site(layer, axis, "block") for layer in range(2) for axis in "st")


def drive(config, outputs):
    """Run a policy over outputs [steps][blocks][videos]; return its session and which blocks ran, [videos][steps].

    Where a block does not run, its output is not looked at, as in a model.
    """
    session = CacheSession(config, len(outputs), branches_in_batch=1)
    num_videos = len(outputs[0][0])
    x, ran = torch.zeros(num_videos, 1, 1), [[] for _ in range(num_videos)]
    for step, values in enumerate(outputs, start=1):
        time = torch.full((num_videos,), 1000.0 - step)
        with session.model_call(x, time):
            view = StackView(step, x, time, 1, (1, 1), None, lambda: x, session.store, BLOCKS)
            split = session.decide(view)
            for start, rows in session.parts(session.policy.starts):
                here = list(range(num_videos)) if rows is None else rows.tolist()
                for row in here:
                    ran[row].append("".join("." if block < start else "#" for block in range(len(BLOCKS))))
                for block in range(start, len(BLOCKS)):
                    out = torch.tensor([float(values[block][row]) for row in here])[:, None, None]
                    session.policy.observe_block(view, block, out, rows)
            if split.computes:
                session.observe_output(view, x if split.rows is None else x[split.rows], split.rows)
            session.correct(x)
    return session, ran


def columns(*blocks):
    """Outputs of one video, given as a list over the steps for each block."""
    return [[[value] for value in values] for values in zip(*blocks, strict=True)]


def test_by_hand():
    # Warm-up of three steps: at step 3 the blocks changed by 1, 2, 3 and 4, so λ is 1, 4, 9 and 16.
    # Step 4 may reuse all, because those changes are not above themselves (γ = 1). Step 5 computes all: the squared
    # changes since step 3 are 1, 4, 16 and 9. Block 4 may be reused at step 6, so none runs.
    # Step 7: changes since step 5 of 4, 1, 16 and 25: the second block is the last that may be reused at step 8.
    # There the third and fourth change by 1 and 0, but step 9 computes all anyway: 9, 9, 100 and 100. Step 10: all.
    one = [0, 0, 1, 0, 2, 0, 4, 0, 1, 0]
    two = [0, 0, 2, 0, 4, 0, 5, 0, 2, 0]
    three = [0, 0, 3, 0, 7, 0, 3, 2, 12, 0]
    four = [0, 0, 4, 0, 7, 0, 2, 2, 12, 0]
    session, (ran,) = drive(ForesightConfig(warmup_steps=3), columns(one, two, three, four))
    assert ran == ["####", "####", "####", "....", "####", "....", "####", "..##", "####", "####"]
    assert [record.computed for record in session.trace] == [block != "...." for block in ran]
    assert [record.share for record in session.trace] == [None] * 7 + [0.5] + [None] * 2
    assert work_done(session.trace) == 7.5
    assert session.peak_cache_bytes == 4 * 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"interval": 1}, "########"),  # every step computes all
        ({"interval": 3}, "####..##"),  # steps 4 and 7, and after three steps the change is too large to reuse
        ({"interval": 9, "warmup_steps": 2}, "##......"),
        ({"threshold": 1e-9}, "########"),
    ],
)
def test_intervals(values, expected):
    moving = [float(step) for step in range(8)]  # changes of 1, as in the warm-up
    _, (ran,) = drive(ForesightConfig(**{"warmup_steps": 3} | values), columns(*[moving] * 4))
    assert "".join(blocks[0] for blocks in ran) == expected


def test_gamma_scales_the_limit():
    values = [0.0, 0.0, 1.0, 1.0, 2.2, 2.2]  # 1 in the warm-up, then 1.44 since step 3
    for threshold, expected in ((1.0, "####"), (1.5, "....")):
        _, (ran,) = drive(ForesightConfig(threshold=threshold, warmup_steps=3), columns(*[values] * 4))
        assert ran[3] == "...." and ran[5] == expected


def test_videos_decide_for_themselves():
    first = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    late, early = [first] * 3 + [[0.0, 1.0, 2.0, 2.0, 9.0, 9.0]], [[0.0, 1.0, 2.0, 9.0, 9.0, 9.0]] * 2 + [first] * 2
    videos = [columns(*late), columns(*early)]
    config = ForesightConfig(threshold=4.0, warmup_steps=3, decision="sample")
    alone = [drive(config, video)[1][0] for video in videos]
    both = [[[*a, *b] for a, b in zip(*steps, strict=True)] for steps in zip(*videos, strict=True)]
    _, together = drive(config, both)
    assert together == alone and alone[0] != alone[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup_steps": 1}, "warmup_steps must be at least 2, to measure a change, got 1"),
        ({"threshold": 0}, "threshold must be above 0"),
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"predictor": "line"}, "here the granularity is 'prefix': leave predictor out"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        ForesightConfig(**values)
