"""LeMiCa: a fixed schedule, planned to minimize the harm that the worst reused segment does to the final latents.

Source: LeMiCa, NeurIPS 2025. `calibration.planning.plan_least_worst` makes the plan from the effect of reusing each
single segment on the final latents (``scripts/calibrate.py``). A plan is valid for one model, one number of steps and
one timestep schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig

LONGEST_GAP = 7
"""Largest interval between computed steps, as in the paper."""


@dataclass(frozen=True)
class LeMiCaConfig(PlannedConfig):
    """LeMiCa; skipped steps reuse the stack residual.

    Attributes:
        steps: the plan: computed steps, counted from 1.
    """
