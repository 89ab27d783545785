"""ReCache: a fixed schedule for a number of computed steps, chosen by a policy that was learned from whole runs.

Source: Aliev et al., "ReCache: Learning Budget-Aware Caching Schedules for Diffusion Models via REINFORCE", arXiv
2606.06060, from its abstract and a summary of its method; its repository held no code. A multilayer perceptron turns
the number of computed steps into the importance of each step, and the most important ones compute. Schedules drawn from
it (Plackett-Luce) are run and rewarded for videos that equal the uncached ones, and REINFORCE makes those of high
reward more likely. One policy serves all numbers of computed steps. `calibration.reinforce` learns it
(``scripts/calibrate.py``). What differs or was not found:

- The size of the network, the number of updates, the baseline of the rewards and how numbers of computed steps are
  chosen while it learns. Ours compares eight schedules at a time, 200 times, which costs about as much as 800 uncached
  runs of one video.
- The reward has a second part, a model's score of the quality of images, which we leave out. Ours is the negative
  logarithm of the mean squared error of final latents.
- Step 1 always computes, since there is nothing to reuse.

The method goes with any predictor: the policy is learned with the `predictor` of the settings to calibrate. A plan is
valid for one model, one number of steps and one timestep schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig


@dataclass(frozen=True)
class ReCacheConfig(PlannedConfig):
    """ReCache; skipped steps reuse the stack residual unless a `predictor` is chosen.

    Attributes:
        steps: the plan: computed steps, counted from 1.
    """
