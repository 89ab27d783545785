"""GCache: a fixed schedule of least reuse error, where each step's error is weighted by what it does to the video.

Source: Ye et al., "From Local Mismatch to Global Impact: Optimizing Cache Reuse Policy for Efficient Diffusion", arXiv
2608.13043, from summaries of its text; no code was found. The error of reuse at step s is multiplied by exp(w(s)),
where w is a polynomial of degree 3 in Bernstein form with coefficients in 0..10. For given coefficients, dynamic
programming finds the schedule of least weighted error with K computed steps. Bayesian optimization finds the
coefficients whose schedule makes the best videos. `calibration.weighted_reuse` does both (``scripts/calibrate.py``).
What differs or was unclear:

- The paper minimizes the sum of LPIPS and 1 − SSIM of frames over 500 rounds. We minimize the mean squared error of
  final latents, as for BudCache, over 40 rounds.
- The paper begins with 16 points, which the summaries do not name. Ours are the first 16 of a Sobol sequence.
- Errors are mean absolute differences in the paper and root mean squares here.

A plan is valid for one model, one number of steps and one timestep schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig


@dataclass(frozen=True)
class GCacheConfig(PlannedConfig):
    """GCache; skipped steps reuse the stack residual.

    Attributes:
        steps: the plan: computed steps, counted from 1.
    """
