"""What the author of a caching policy derives from: `CacheConfig` (its settings) and `CachePolicy` (its decisions).

A policy is a frozen dataclass of settings whose `build` makes the object that decides, run by run::

    @dataclass(frozen=True)
    class EveryOtherConfig(CacheConfig):
        def build(self, num_sampling_steps, groups):
            return EveryOther(groups)

    class EveryOther(CachePolicy):
        def decide(self, view):
            return [view.step % 2 == 1] * len(self.groups)

`apply_cache` takes any instance of a `CacheConfig`. What an adapter has to know about a policy is asked of its config,
and refused before the model is touched where the adapter cannot serve it. docs/guide/write_a_policy.md is a tutorial.

Importing this module imports no torch, so settings can be read and checked without it. Letters: R batch rows (videos ×
guidance branches), N tokens, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from opensora_adacache.caching.checks import check_choice, is_count, plain

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore

DECISIONS = ("batch", "sample")


class Site(NamedTuple):
    """One residual of the stack, for policies that decide for each (`sites`).

    Attributes:
        layer: counted from 0.
        axis: "s" for the spatial block of the layer, "t" for the temporal one.
        kind: "attn" (self-attention), "cross" (cross-attention) or "mlp".
    """

    layer: int
    axis: str
    kind: str

    def __str__(self) -> str:
        return f"{self.layer}.{self.axis}-{self.kind}"


@dataclass(frozen=True)
class Probe:
    """The residuals whose change a policy measures (`CachePolicy.observe_probe`).

    Attributes:
        residual: "t-attn", "s-attn" or "ca-mlp" (cross-attention and MLP); None leaves it to the adapter.
        layers: counted from 0; None leaves it to the adapter, which takes the middle one.
    """

    residual: str | None = None
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class CacheConfig(ABC):
    """Settings of a caching policy; derive a frozen dataclass from it.

    Only `build` has to be written. The properties say what the policy needs; override those that differ. A subclass
    that checks its settings in ``__post_init__`` calls ``super().__post_init__()`` first, which makes numbers of numpy
    plain ones.

    Attributes:
        decision: "batch" takes one decision for all videos of a batch, "sample" one for each video, so that a batch
            gives the videos of single runs.
    """

    decision: str = field(default="batch", kw_only=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        check_choice("decision", self.decision, DECISIONS)

    @abstractmethod
    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run.

        Args:
            num_sampling_steps: n, the denoising steps of the run.
            groups: the batch rows of each group; the rows of a group decide together.
        """

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        """Raise ValueError where the settings do not fit a run of that many steps on a model of that depth."""
        if not is_count(num_sampling_steps):
            raise ValueError(f"num_sampling_steps must be a whole number of at least 1, got {num_sampling_steps!r}")

    # What the policy reads

    @property
    def probe(self) -> Probe | None:
        """The residuals that `CachePolicy.observe_probe` is to see at computed steps; None: none."""
        return None

    @property
    def reads_frames(self) -> bool:
        """Whether it reads `StackView.num_frames` and `frame_size`, or the frames of a probe's residual."""
        return False

    @property
    def reads_modulated_input(self) -> bool:
        """Whether it calls `StackView.modulated_input`."""
        return False

    @property
    def reads_noise_level(self) -> bool:
        """Whether it takes the timestep / 1000 for the noise level, which holds for rectified flows."""
        return False

    @property
    def num_first_blocks(self) -> int:
        """Blocks that run on every step, before the policy decides; the others are the stack that skips."""
        return 0

    # What is stored and reused

    @property
    def granularity(self) -> str:
        """What is reused: "stack" (the residual of all blocks), "block", "site" or "range" (see `sites`)."""
        return "stack"

    @property
    def corrector(self) -> float:
        """Fraction of the error of skipped steps that the next computed step corrects; 0 is none (`Corrector`)."""
        return 0.0

    @property
    def num_extra_residuals(self) -> int:
        """Tensors as large as a residual that are held beside the residuals themselves, for estimates of memory."""
        return 0

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        """Make what stands in for the stack's residual at skipped steps: plain reuse unless overridden."""
        from opensora_adacache.caching.residuals.taylor import TaylorResidual

        return TaylorResidual(store, 0, num_rows, device)

    # What can be known before a run

    def for_frames(self, num_latent_frames: int) -> CacheConfig:
        """Return the settings for clips of that many latent frames; raise ValueError where they need more."""
        return self

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...] | None:
        """Return the steps that compute, counted from 1, where they are known before the run; None otherwise."""
        return None

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        """Return why these settings will probably not suit the model, in one sentence; None where nothing is known.

        Args:
            num_sampling_steps: n.
            model_name: class of the model; None for those of Open-Sora 1.2, which published constants belong to.
        """
        return None


@dataclass(frozen=True)
class Decision:
    """What a step measured and decided for one group.

    Attributes:
        distance: the policy's measure of change.
        motion: shaped motion; 1 where it does not count.
        motion_gradient: weighted change of motion.
        rate: steps until the next computed one, where the policy plans ahead.
    """

    distance: float
    motion: float | None = None
    motion_gradient: float | None = None
    rate: int = 1


@dataclass(frozen=True)
class StackView:
    """What a policy may look at when the block stack is about to run.

    Attributes:
        step: counted from 1.
        x: input of the stack [R, N, C].
        timestep: [R], 0 to 1000.
        num_frames: latent frames.
        frame_size: rows and columns of patches.
        first_residual: residual of the blocks that always run [R, N, C]; None where there are none (`x` is what comes
            after them).
        modulated_input: gives what the first block's attention reads [R, N, C]; computed when it is called.
        store: where a policy keeps tensors, so that their bytes count.
        sites: the stack's residuals in order of execution, for policies that decide for each.
        time: the timestep as a number where the adapter knows it without waiting for the device, or had to read it.
    """

    step: int
    x: Tensor
    timestep: Tensor
    num_frames: int
    frame_size: tuple[int, int]
    first_residual: Tensor | None
    modulated_input: Callable[[], Tensor]
    store: ResidualStore
    sites: tuple[Site, ...] = ()
    time: float | None = None


class CachePolicy(ABC):
    """Decisions for groups of rows during one run; only `decide` has to be written.

    A computed step calls `decide`, `observe_probe` for each probe, `observe_output`, `take_measurements`,
    `observe_forecast` and `end_computed_step`, in this order; a skipped step calls `decide` alone.

    Args:
        groups: the rows of each group; every row is in one group.
    """

    def __init__(self, groups: list[list[int]]) -> None:
        self.groups = groups

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with some rows only, int64 [r], which are 0..r−1 from now on; every group keeps some of its rows.

        Where a pipeline switches guidance off within a run. A policy that holds tensors of its own by row overrides it.
        """
        place = {row: index for index, row in enumerate(rows.tolist())}
        self.groups = [[place[row] for row in group if row in place] for group in self.groups]

    @property
    def rates(self) -> list[int]:
        """The rate in force of each group; 1 where a policy does not plan ahead."""
        return [1] * len(self.groups)

    @property
    def needs_timestep(self) -> bool:
        """Whether the timestep must be read as a number before the stack runs: a synchronisation on every step."""
        return False

    @property
    def share(self) -> float | None:
        """Fraction of the stack's residuals that compute in the open step; None where it is all of them or none."""
        return None

    def rows_of(self, chosen: Sequence[bool]) -> list[int]:
        """Return the rows, rising, of the groups that are chosen."""
        return sorted(row for group, taken in zip(self.groups, chosen, strict=True) if taken for row in group)

    @abstractmethod
    def decide(self, view: StackView) -> list[bool]:
        """Tell for each group whether this step computes."""

    def observe_probe(self, step: int, old: Tensor, new: Tensor, num_frames: int) -> None:
        """See the old and new residual [r, N, C] of a probe on a computed step."""
        return None

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        """See the output [r, N, C] of the stack for the rows that computed (None: all)."""
        return None

    def take_measurements(self) -> Sequence[Tensor]:
        """Return what a computed step measured and is to be read on the host: for each probe float32 [r, sums]."""
        return ()

    def observe_forecast(self, missed: Mapping[int, MissedForecast]) -> None:
        """See row → ‖r − forecast‖₂², ‖r‖₂² of the stack residual on a computed step; empty without a forecast."""
        return None

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        """Take the measurements of a computed step; return a decision for each group, or None where there is none.

        Args:
            step: counted from 1.
            computed: for each group whether it computed; its rows were observed in rising order.
            measured: `take_measurements` as numbers, [probes][r][sums].
        """
        return [None] * len(self.groups)
