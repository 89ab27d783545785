"""TAFC: its gates, its controller and its forecast, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.policies.tafc import GainController, TAFCConfig, Trajectory
from opensora_adacache.caching.session import CacheSession

X = torch.zeros(2, 1, 1)


def run(config, curves, steps=12):
    """Run a policy on residuals curve(step), one curve per row; return computed steps per video and all forecasts."""
    session = CacheSession(config, steps, branches_in_batch=1)
    forecasts = {}
    for step in range(1, steps + 1):
        time = torch.full((2,), 1100.0 - 100 * step)
        residual = torch.tensor([curve(step) for curve in curves])[:, None, None]

        def compute(x, rows, residual=residual):
            out = x + (residual if rows is None else residual[rows])
            session.keep_residual(out, x, rows)
            return out

        with session.model_call(X, time):
            view = StackView(step, X, time, 1, (1, 1), None, lambda: X, session.store, time=session.time)
            forecasts[step] = session.run_stack(view, compute, session.add_residual).flatten().tolist()
            session.correct(X)
    return [[record.step for record in trace if record.computed] for trace in session.traces], forecasts


def test_gates_by_hand():
    """The residual of step s is s, so its line is exact and the gain stays 1.

    Single steps at 3, 4 and 5 risk 1/2, 1/3 and 1/4: the budget is 3 · 1/3. From step 5, each step risks 1/5 more; the
    curvature is 1/4, below 0.3·(0.7 + 1.3·5/11). At steps 6, 7 and 8 at most 1 + 2·(s − 1)/11 steps may have been
    skipped, and at 9 that is 2.45 < 3. From 9 the curvature 4/5 is above its budget; from 10 it is 1/9.
    """
    steps, forecasts = run(TAFCConfig(threshold=0.3, max_skips=2), [float, float])
    assert steps == [[1, 2, 3, 4, 5, 9, 10, 12]]
    assert forecasts[8] == pytest.approx([8.0, 8.0])


def test_single_skips():
    """As in `test_gates_by_hand`, but no two steps in a row may be skipped."""
    steps, _ = run(TAFCConfig(threshold=1.0, max_skips=0), [float, float])
    assert steps == [[1, 2, 3, 4, 5, 7, 9, 11, 12]]


def test_the_risk_ends_a_stretch():
    # the budget of the risk is that of the first steps, where the residual grew by 1/2, 1/3 and 1/4; it then grows by
    # more: from 20 to 60, the line risks 2/3 at once, and 4/3 at the second step is above the budget of 1
    curve = {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 5.0, 6: 20.0, 7: 60.0}.get
    steps, _ = run(TAFCConfig(threshold=50.0, max_skips=9, first_steps=7), [lambda s: curve(s, 99.0)] * 2, steps=10)
    assert steps == [[1, 2, 3, 4, 5, 6, 7, 9, 10]]


def test_two_more_steps_are_measured_first():
    steps, _ = run(TAFCConfig(threshold=50.0, first_steps=1), [lambda s: 2.0**s] * 2)
    assert steps[0][:3] == [1, 2, 3] and steps[0][-1] == 12 and len(steps[0]) < 12


def test_each_video_decides_for_itself():
    config = TAFCConfig(threshold=0.3, max_skips=2, decision="sample")
    wild = [float, lambda s: (-1.0) ** s]
    steps, _ = run(config, wild)
    assert steps == [[1, 2, 3, 4, 5, 9, 10, 12], list(range(1, 13))]


def test_every_step_computes_below_all_curvatures():
    assert run(TAFCConfig(threshold=1e-9), [float, float])[0] == [list(range(1, 13))]


def test_the_controller_by_hand():
    controller = GainController()
    controller.update(1.0)  # nothing to compare with yet
    assert controller.gain == 1.0 and not controller.is_calibrated
    for risk, error in ((0.1, 0.01), (0.2, 0.02), (0.3, 0.06), (0.0, 0.0)):
        controller.calibrate(risk, error)
    controller.update(0.05)  # the target, 2.5 · 0.02
    assert controller.gain == pytest.approx(1.0)
    controller.update(0.1)  # P, I and D all see log ½
    assert controller.gain == pytest.approx(0.5**0.65)
    controller.update(0.05)  # P sees 0, I the sum log ½, D the change log 2
    assert controller.gain == pytest.approx(0.5**0.65 * 0.5**0.05 * 2**0.2)
    for _ in range(9):
        controller.update(10.0)
    assert controller.gain == pytest.approx(0.3)
    for _ in range(20):
        controller.update(1e-9)
    assert controller.gain == pytest.approx(3.0)


def test_a_rising_curvature_brakes():
    one = Trajectory()
    for step, (change, old, new) in ((2, (1.0, 1.0, 4.0)), (4, (16.0, 4.0, 36.0))):  # curvatures 1 and 2
        one.steps, one.times = [step, *one.steps][:2], [1000.0 - step, *one.times][:2]
        one.times += [1000.0] * (2 - len(one.times))
        one.measure(change, old, new)
        one.skips(900.0, 0.5, 1.0, 5)
    # it doubled in two steps: a rise of ½ per step, 1 / (1 + 2·½)
    assert one.brake == pytest.approx(0.5)


def test_a_turn_weighs_twice():
    steps, _ = run(TAFCConfig(threshold=0.3), [math.cos, math.sin], steps=8)
    assert steps == [list(range(1, 9))]  # 2·(1 − cos 1) = 0.92


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 0}, "threshold must be above 0"), ({"max_skips": -1}, "max_skips must be a whole number")],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TAFCConfig(**settings)
