"""T-GATE: computes self-attention every k-th step before a gate step and freezes cross-attention after it.

Source: Zhang et al., "Cross-Attention Makes Inference Cumbersome in Text-to-Image Diffusion Models", arXiv 2404.02747,
in the form used for Open-Sora 1.2 in the PAB authors' public code (VideoSys, branch exp/tgate_deltadit): the two
guidance branches stay separate before and after the gate. (T-GATE's original code for image models averages the frozen
cross-attention over the branches and runs a single branch from there on.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opensora_adacache.caching.checks import check_counts
from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.sites import SiteCacheConfig


@dataclass(frozen=True)
class TGATEConfig(SiteCacheConfig):
    """T-GATE. The defaults are those published for Open-Sora 1.2 at 30 steps: m = 12, k = 2.

    Attributes:
        gate_step: m, the number of steps before the gate. Self-attention is reused in steps 2..m only; step m + 1 is
            the last that computes cross-attention. Raising it reuses more self-attention and less cross-attention.
        interval: k; before the gate, self-attention computes at steps 1, 1 + k, 1 + 2k, … Raising it computes less.
    """

    gate_step: int = 12
    interval: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "gate_step", "interval")

    def computes(self, step: int, timesteps: Sequence[float], site: Site) -> bool:
        if site.kind == "cross":
            return step <= self.gate_step + 1
        return site.kind == "mlp" or step > self.gate_step or (step - 1) % self.interval == 0

    def stores(self, site: Site) -> bool:
        return site.kind == "cross" or (site.kind == "attn" and self.interval > 1)
