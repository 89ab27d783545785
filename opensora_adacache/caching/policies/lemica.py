"""LeMiCa: a fixed schedule, planned so that the worst reused segment harms the final latents least.

Source: LeMiCa, NeurIPS 2025. The plan is made by `planning.plan_least_worst` from what reusing each single segment does
to the final latents (``scripts/calibrate.py``); it belongs to one model, one number of steps and one timestep schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig

LONGEST_GAP = 7
"""Most steps from one computed step to the next, as in the paper."""


@dataclass(frozen=True)
class LeMiCaConfig(PlannedConfig):
    """LeMiCa; skipped steps reuse the stack residual.

    Attributes:
        steps: the plan, computed steps counted from 1.
    """
