"""BudCache: a fixed schedule for a fixed number of computed steps, found by annealing and hill climbing.

Source: Lei et al., "Budget-Constrained Step-Level Diffusion Caching", ICML 2026, arXiv 2606.13496, and its published
code. `calibration.annealing.anneal` makes the plan (``scripts/calibrate.py``) by comparing the final latents of whole
runs with those of uncached ones. This is the paper's first stage, the one that its results use unless they say
otherwise. The second stage trains other timesteps for the sampler, which a cache that is attached from outside cannot
set, so it is not here. A plan is valid for one model, one number of steps and one timestep schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig


@dataclass(frozen=True)
class BudCacheConfig(PlannedConfig):
    """BudCache; skipped steps reuse the stack residual.

    Attributes:
        steps: the plan: computed steps, counted from 1.
    """
