"""ERTACache without its timestep adjustment: steps found offline, and reuse with a linear model of its error taken off.

Source: Peng et al., "ERTACache: Error Rectification and Timesteps Adjustment for Efficient Diffusion", ICLR 2026, arXiv
2508.21091. Of its three parts, two are here, from a summary with their equations; the paper's text and its published
code were not available.

- The steps: a step reuses if the relative error of the last computed residual, ‖r̃ − r‖₁ / ‖r‖₁, is below λ in
  uncached runs, and computes otherwise. `calibration.plans` averages it over the calibration videos and chooses λ for
  the wanted number of computed steps. (The paper sets λ by hand, 0.1 and 0.18 for Open-Sora 1.2.)
- The error of reuse at a step is modelled as σ(K·ṽ + B) of what reuse gives, with σ linearised around 0, so that K and
  B are a least-squares fit over all values. Evaluating σ with them would be off by about σ(−2) everywhere, so we
  evaluate the same linearisation, a·ṽ + b, as the fit does.
- The third part shortens the sampler's step where a step reuses, and spreads the rest over the later steps. A cache
  that is attached from outside cannot do that. The paper's ablation on Wan 2.1 gives it 0.9 dB of PSNR, the
  rectification 0.8 dB, and the steps 8.3 dB over evenly spaced ones.

r and ṽ are the residual and the output of the block stack here; in the paper they are those of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import is_number, items
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.errors.shown import counted

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class UnshiftedERTACacheConfig(PlannedConfig):
    """ERTACache without its timestep adjustment.

    Attributes:
        steps: computed steps, counted from 1.
        slopes: a of each step of the run, 0 at computed ones; () for plain reuse.
        offsets: b of each step of the run.
    """

    slopes: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slopes", "offsets"):
            values = items(name, getattr(self, name))
            if not all(map(is_number, values)):
                raise ValueError(f"{name} must be numbers, one for each step, got {values}")
            object.__setattr__(self, name, values)
        if len(self.slopes) != len(self.offsets):
            raise ValueError(
                f"slopes and offsets must have the same length, got {len(self.slopes)} and {len(self.offsets)}"
            )

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if self.slopes and len(self.slopes) != num_sampling_steps:
            raise ValueError(
                f"slopes and offsets have {counted(len(self.slopes), 'value')} each, but the run has "
                f"{counted(num_sampling_steps, 'step')}: calibrate them for this number of steps"
            )

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.rectified import RectifiedResidual

        if not self.slopes:
            return super().build_residual(store, num_rows, device)
        return RectifiedResidual(store, self.slopes, self.offsets, num_rows, device)
