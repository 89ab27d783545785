"""SenCache's sensitivities, against the same differences taken by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.adapters.recorder import record_stack
from opensora_adacache.calibration.sensitivities import record_sensitivities, rms


@torch.no_grad()
def test_sensitivities_are_differences_of_one_argument_at_a_time(golden_model):
    z = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {name: torch.full((2,), 64.0) for name in ("fps", "height", "width")}
    latents, times = [z, 0.9 * z, 0.7 * z], [1000.0, 800.0, 500.0]

    def call(latent, time):
        return golden_model(latent, torch.full((2,), time), y, **size)

    plain = [call(latent, time) for latent, time in zip(latents, times, strict=True)]
    with record_sensitivities(golden_model) as found:
        recorded = [call(latent, time) for latent, time in zip(latents, times, strict=True)]
    assert all(torch.equal(one, other) for one, other in zip(plain, recorded, strict=True))

    def stack(latent, time):
        seen = []
        with record_stack(golden_model, lambda x, out, modulated: seen.append((x, out - x))):
            call(latent, time)
        return seen[0]

    for step in range(2):
        (x, residual), (_, timed) = stack(latents[step], times[step]), stack(latents[step + 1], times[step + 1])
        moved_x, moved = stack(latents[step + 1], times[step])
        assert found.inputs[step] == pytest.approx(rms(moved - residual) / rms(moved_x - x))
        assert found.times[step] == pytest.approx(rms(timed - moved) / ((times[step] - times[step + 1]) / 1000))
    assert len(found.inputs) == len(found.times) == 2 and min(*found.inputs, *found.times) > 0
