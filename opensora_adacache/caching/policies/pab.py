"""PAB (pyramid attention broadcast): reuses each kind of attention over a different range of steps.

Source: Zhao et al., "Real-Time Video Generation with Pyramid Attention Broadcast", arXiv 2408.12588, and its public
code for Open-Sora 1.2. A setting is named after its ranges: PAB246, PAB357, PAB579.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opensora_adacache.caching.checks import check_counts, is_index, is_number, items
from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.sites import SiteCacheConfig


@dataclass(frozen=True)
class PABConfig(SiteCacheConfig):
    """PAB. The defaults are PAB246, with the window and the timesteps published for Open-Sora 1.2 at 30 steps.

    Attributes:
        spatial: range k of spatial attention: inside the window it computes at every k-th step, counted from the first
            step of the run, and is reused in between. Raising it computes less.
        temporal: range of temporal attention.
        cross: range of cross-attention.
        window: lower and upper timestep, both exclusive, between which anything is reused.
        mlp_timesteps: timesteps at which the MLPs compute for reuse: at the first step at or below each of them. (The
            published code requires equality with the timestep rounded to bfloat16, so with other sizes or numbers of
            steps it never reuses the MLPs; with the published setting both choose the same steps.)
        mlp_layers: layers whose two MLPs are reused.
        mlp_skips: number of steps that reuse them after each of these timesteps.
    """

    needs_timestep: ClassVar[bool] = True

    spatial: int = 2
    temporal: int = 4
    cross: int = 6
    window: tuple[float, float] = (450, 930)
    mlp_timesteps: tuple[float, ...] = (864, 788, 676)
    mlp_layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    mlp_skips: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "mlp_timesteps", "mlp_layers"):
            object.__setattr__(self, name, items(name, getattr(self, name)))
        check_counts(self, "spatial", "temporal", "cross", "mlp_skips")
        if len(self.window) != 2 or not all(map(is_number, self.window)) or self.window[0] > self.window[1]:
            raise ValueError(f"window must be two timesteps, the lower one first, got {self.window}")
        if not all(map(is_number, self.mlp_timesteps)):
            raise ValueError(f"mlp_timesteps must be numbers, got {self.mlp_timesteps}")
        if not all(map(is_index, self.mlp_layers)):
            raise ValueError(f"mlp_layers must be layers, counted from 0, got {self.mlp_layers}")

    def computes(self, step: int, timesteps: Sequence[float], site: Site) -> bool:
        if site.kind == "mlp":
            return not (self.stores(site) and self._reuses_mlp(step, timesteps))
        low, high = self.window
        return not low < timesteps[step - 1] < high or (step - 1) % self._range(site) == 0

    def stores(self, site: Site) -> bool:
        if site.kind == "mlp":
            return site.layer in self.mlp_layers and bool(self.mlp_timesteps)
        return self._range(site) > 1

    def _range(self, site: Site) -> int:
        if site.kind == "cross":
            return self.cross
        return self.spatial if site.axis == "s" else self.temporal

    def _reuses_mlp(self, step: int, timesteps: Sequence[float]) -> bool:
        """Return whether a listed timestep was first reached 1 to `mlp_skips` steps ago, and none at this step."""
        starts = {sum(t > listed for t in timesteps[:step]) + 1 for listed in self.mlp_timesteps}
        return step not in starts and any(0 < step - start <= self.mlp_skips for start in starts)
