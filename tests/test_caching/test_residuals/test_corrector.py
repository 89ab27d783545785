"""Computed steps correct the errors of the skipped steps before them."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.residuals.corrector import Corrector
from opensora_adacache.caching.residuals.store import ResidualStore

TIMES = [1000.0, 900.0, 800.0, 650.0, 500.0, 350.0, 150.0]


def sample(gain, velocities, forecasts, rows=1, times=TIMES):
    """Take Euler steps with the true velocities, or with forecasts where given; return the end point.

    Args:
        gain: gain of the corrector; None for no corrector.
        velocities: true velocity of each step, the same for all rows.
        forecasts: {step: {row: velocity}}, steps counted from 0.
    """
    corrector = None if gain is None else Corrector(ResidualStore(), gain)
    z = torch.zeros(rows, 1, 2)
    for step, (t, velocity) in enumerate(zip(times, velocities, strict=True)):
        out = torch.full((rows, 1, 2), float(velocity))
        skipped = forecasts.get(step, {})
        for row, value in skipped.items():
            out[row] = value
        computed = [row for row in range(rows) if row not in skipped]
        index = torch.tensor(computed) if 0 < len(computed) < rows else None
        if corrector:
            out = corrector.correct(out, torch.tensor([t]), bool(computed), index, step == len(times) - 1)
        following = times[step + 1] if step + 1 < len(times) else 0.0
        z = z + (t - following) * out
    return z[:, 0, 0].tolist()


LINE = [2.0 + t / 100 for t in TIMES]


@pytest.mark.parametrize("forecasts", [{2: {0: 5.0}}, {2: {0: 11.0}, 3: {0: 20.0}}, {1: {0: 0.0}, 4: {0: 9.0}}])
def test_a_velocity_on_a_line_ends_where_it_would_have_without_skipping(forecasts):
    times = [1000.0 - 100 * i for i in range(10)]  # equal steps: the next one is as long as the previous one
    line = [2.0 + t / 100 for t in times]
    truth, cached = sample(None, line, {}, times=times), sample(None, line, forecasts, times=times)
    assert sample(1.0, line, forecasts, times=times) == pytest.approx(truth)
    # half of the difference
    halves = [(one + other) / 2 for one, other in zip(truth, cached, strict=True)]
    assert sample(0.5, line, forecasts, times=times) == pytest.approx(halves)


def test_by_hand_with_uneven_steps():
    # at t = 650 the skipped step of 800 is off by 150 · (9 - 10), where 10 is on the line from 11 at 900 to 8.5 at 650;
    # the previous step was 50 longer than the one before it, so this step is assumed to be 200 long but is 150 long
    truth, cached = sample(None, LINE, {}), sample(None, LINE, {2: {0: 9.0}})
    assert truth[0] - cached[0] == pytest.approx(150.0)
    assert sample(1.0, LINE, {2: {0: 9.0}})[0] - cached[0] == pytest.approx(150.0 * 150 / 200)


def test_the_last_step_is_as_long_as_its_timestep():
    # 350 → 150 → 0: by extrapolation, the last step would be 250 long
    truth = sample(None, LINE, {})
    assert sample(1.0, LINE, {5: {0: 0.0}}) == pytest.approx(truth)


def test_rows_are_corrected_at_their_own_computed_steps():
    forecasts = {2: {0: 5.0}, 3: {0: 4.0, 1: 4.0}, 4: {1: 9.0}}
    alone = [{step: {0: skipped[row]} for step, skipped in forecasts.items() if row in skipped} for row in range(2)]
    expected = [sample(0.5, LINE, own)[0] for own in alone]
    assert sample(0.5, LINE, forecasts, rows=3) == pytest.approx([*expected, sample(None, LINE, {})[0]])


def test_without_skipped_steps_outputs_are_what_they_were():
    corrector, out = Corrector(ResidualStore(), 0.5), torch.randn(2, 4, 3)
    for t in (900.0, 800.0, 700.0):
        assert corrector.correct(out, torch.tensor([t, t]), True, None, False) is out


def test_a_sampler_may_change_what_it_gets():
    store = ResidualStore()
    corrector, out = Corrector(store, 0.5), torch.ones(1, 4)
    corrector.correct(out, torch.tensor([900.0]), True, None, False).mul_(7)
    assert store.get(Corrector.BASE).tolist() == [[1.0] * 4]


def test_a_sampler_may_write_every_timestep_into_one_tensor():
    correctors, tensor = [Corrector(ResidualStore(), 0.5) for _ in range(2)], torch.empty(1)
    for number, t in enumerate(TIMES):
        out, is_last = torch.full((1, 4), float(number**2)), number == len(TIMES) - 1
        timesteps = torch.tensor([t]), tensor.fill_(t)
        fresh, same = (
            corrector.correct(out, timestep, number not in (2, 3), None, is_last)
            for corrector, timestep in zip(correctors, timesteps, strict=True)
        )
        assert torch.equal(fresh, same)


def test_two_tensors_of_the_outputs_shape_are_held():
    store = ResidualStore()
    corrector, out = Corrector(store, 0.5), torch.ones(2, 4)
    for number, t in enumerate((900.0, 800.0, 700.0, 600.0)):
        corrector.correct(out, torch.tensor([t]), number != 1, None, False)
    assert store.peak_bytes == 2 * out.numel() * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_timesteps_that_half_precision_cannot_tell_apart(dtype):
    corrector, out = Corrector(ResidualStore(), 0.5), torch.ones(1, 4, dtype=dtype)
    for number, t in enumerate((1000.0, 999.0, 999.0, 999.0, 999.0, 998.0)):
        out = corrector.correct(out + number, torch.tensor([t], dtype=dtype), number not in (2, 3), None, number == 5)
        assert out.dtype == dtype and bool(torch.isfinite(out).all())
