"""Base classes for caching policies: `CacheConfig` (the settings) and `CachePolicy` (the decisions).

A policy consists of a frozen dataclass of settings, whose `build` creates the object that decides during one run:

    @dataclass(frozen=True)
    class EveryOtherConfig(CacheConfig):
        def build(self, num_sampling_steps, groups):
            return EveryOther(groups)

    class EveryOther(CachePolicy):
        def decide(self, view):
            return [view.step % 2 == 1] * len(self.groups)

`apply_cache` accepts any instance of `CacheConfig`. The adapter reads what the policy needs from its config, and
`apply_cache` refuses it before touching the model if the adapter cannot provide it. See the tutorial in
docs/guide/write_a_policy.md.

Importing this module does not import torch, so settings can be read and checked without it. Letters: R batch rows
(videos × guidance branches), N tokens, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from opensora_adacache.caching.checks import check_choice, check_corrector, is_count, plain
from opensora_adacache.caching.distance import column_sums
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.predictors import PREDICTORS
from opensora_adacache.caching.team import Team

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore

DECISIONS = ("batch", "sample")
RESIDUAL_DEVICES = (None, "cpu")
WHOLE_STACK = ("stack", "block")
"""Granularities whose skipped steps run no block of the stack."""


class Site(NamedTuple):
    """One residual of the stack, for policies that decide about each one separately (`sites`).

    Attributes:
        layer: counted from 0.
        axis: "s" for the spatial block of the layer, "t" for the temporal one.
        kind: "attn" (self-attention), "cross" (cross-attention) or "mlp"; "block" for a whole block.
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
        residual: "t-attn", "s-attn" or "ca-mlp" (cross-attention and MLP). With None the adapter chooses. "output" is
            no residual but what whole blocks return.
        layers: counted from 0. With None the adapter takes the middle layer, or all layers for their outputs.
    """

    residual: str | None = None
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class CacheConfig(ABC):
    """Settings of a caching policy; derive a frozen dataclass from it.

    Only `build` is required. The properties declare what the policy needs; override those whose defaults do not fit. A
    subclass that checks its settings in ``__post_init__`` must call ``super().__post_init__()`` first, which converts
    numbers of numpy to plain ones.

    Attributes:
        decision: "batch" makes one decision for all videos of a batch. "sample" makes one per video, so that a video
            does not depend on the batch it is in.
        residual_device: "cpu" holds the cached residuals in the memory of the CPU, for cards that are full. None holds
            them where the model computes. Both give the same videos.
        predictor: what replaces the residual of the stack at skipped steps: a name in `PREDICTORS`, with any policy
            that skips the whole stack. None for what the policy does by itself.
        corrector: fraction of the error of skipped steps that the next computed step corrects, in [0, 1); 0 corrects
            nothing (`residuals.corrector`). With any policy that skips the whole stack; docs/guide/adapters.md names
            the samplers that allow it.
        guidance_reuse: leaves out the unconditional rows at some steps, with any policy. None computes them whenever
            the policy computes.
    """

    decision: str = field(default="batch", kw_only=True)
    residual_device: str | None = field(default=None, kw_only=True)
    predictor: str | None = field(default=None, kw_only=True)
    corrector: float = field(default=0.0, kw_only=True)
    guidance_reuse: GuidanceReuse | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
        check_choice("decision", self.decision, DECISIONS)
        check_choice("residual_device", self.residual_device, RESIDUAL_DEVICES)
        check_choice("predictor", self.predictor, (None, *PREDICTORS))
        if self.guidance_reuse is not None and not isinstance(self.guidance_reuse, GuidanceReuse):
            raise ValueError(f"guidance_reuse must be a GuidanceReuse or None, got {self.guidance_reuse!r}")
        if self.predictor is not None and self.granularity != "stack":
            raise ValueError(
                f"predictor needs a policy that stores the residual of the whole stack, and here the granularity is "
                f"{self.granularity!r}: leave predictor out"
            )
        check_corrector(self.corrector)
        if self.corrector and self.granularity not in WHOLE_STACK:
            raise ValueError(
                f"a corrector needs a policy that skips the whole stack, and here the granularity is "
                f"{self.granularity!r}: set corrector=0"
            )

    @abstractmethod
    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Create the policy for one run.

        Args:
            num_sampling_steps: n, the number of denoising steps of the run.
            groups: the batch rows of each group; the rows of a group decide together.
        """

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        """Raise ValueError if the settings do not fit a run with this many steps on a model of this depth."""
        if not is_count(num_sampling_steps):
            raise ValueError(f"num_sampling_steps must be a whole number of at least 1, got {num_sampling_steps!r}")

    # What the policy reads

    @property
    def probe(self) -> Probe | None:
        """The residuals that `CachePolicy.observe_probe` receives at computed steps; None for no probe."""
        return None

    @property
    def reads_frames(self) -> bool:
        """Whether the policy reads `StackView.num_frames` and `frame_size`, or the frames of a probe's residual."""
        return False

    @property
    def reads_modulated_input(self) -> bool:
        """Whether the policy calls `StackView.modulated_input`."""
        return False

    @property
    def reads_noise_level(self) -> bool:
        """Whether the policy uses timestep / 1000 as the noise level, which holds for rectified flows."""
        return False

    @property
    def reads_whole_video(self) -> bool:
        """Whether the policy needs all tokens of a video in one place, which a split video does not offer (`Team`)."""
        return False

    @property
    def num_first_blocks(self) -> int:
        """Number of blocks that run on every step before the policy decides; skipped steps skip the remaining ones."""
        return 0

    # What is stored and reused

    @property
    def granularity(self) -> str:
        """What is stored and reused: "stack" (the residual of all blocks), "block", "site" or "range" (see `sites`).

        "prefix" is the output of each block, one of which stands for all blocks up to it.
        """
        return "stack"

    @property
    def reads_forecast_error(self) -> bool:
        """Whether `CachePolicy.observe_forecast` needs errors, which are then measured for every predictor."""
        return False

    @property
    def num_extra_residuals(self) -> int:
        """Number of residual-sized tensors held in addition to the residuals, for estimating memory."""
        return self.num_forecast_residuals

    @property
    def num_forecast_residuals(self) -> int:
        """Those of them that belong to the predictor."""
        return self.own_forecast_residuals if self.predictor is None else PREDICTORS[self.predictor]

    @property
    def own_forecast_residuals(self) -> int:
        """Those that the object of `build_residual` holds."""
        return 0

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        """Create the object that provides the stack residual at skipped steps, if no `predictor` is chosen.

        The default is plain reuse.
        """
        from opensora_adacache.caching.residuals.taylor import TaylorResidual

        return TaylorResidual(store, 0, num_rows, device)

    # What can be known before a run

    def most_lenient(self) -> CacheConfig | None:
        """Return settings that skip all that these can ever skip if the tokens do not change from step to step.

        They tell how few steps of a short run can compute (`dry_run`). None if a run on such tokens would not tell.
        """
        return None

    def for_frames(self, num_latent_frames: int) -> CacheConfig:
        """Return the settings for clips with this many latent frames; raise ValueError if the clip is too short."""
        return self

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...] | None:
        """Return the steps that compute, counted from 1, if they are known before the run, or else None."""
        return None

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        """Return one sentence that says why these settings probably do not suit the model; None if nothing is known.

        Args:
            num_sampling_steps: n.
            model_name: class of the model; None for the Open-Sora 1.2 models, for which constants were published.
        """
        return None


@dataclass(frozen=True)
class Decision:
    """What was measured and decided for one group at one step.

    Attributes:
        distance: the policy's measure of change.
        motion: shaped motion; 1 where motion is not used.
        motion_gradient: weighted change of motion.
        rate: steps until the next computed step, for policies that plan ahead.
    """

    distance: float
    motion: float | None = None
    motion_gradient: float | None = None
    rate: int = 1


@dataclass(frozen=True)
class StackView:
    """What a policy can read when the block stack is about to run.

    If several processes make a video together, this is what this process holds: N tokens of T whole frames, and r rows.

    Attributes:
        step: counted from 1.
        x: input of the stack [R, N, C].
        timestep: [R], 0 to 1000.
        num_frames: number of latent frames.
        frame_size: rows and columns of patches.
        first_residual: residual [R, N, C] of the blocks that always run, or None if there are none. `x` is the output
            of these blocks.
        modulated_input: returns the input of the first block's attention [R, N, C]; computed on each call.
        store: where a policy keeps its tensors, so that their bytes are counted.
        sites: the stack's residuals in order of execution, for policies that decide about each one separately.
        time: the timestep as a number, if the adapter knows it without waiting for the device or had to read it anyway.
        complete: groups whose unconditional rows come back for this step (`GuidanceReuse`). A policy that decides about
            each site computes all of them, because the difference of the branches is measured on exact outputs.
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
    complete: frozenset[int] = frozenset()

    def known_first_residual(self) -> Tensor:
        """Return `first_residual`; raise RuntimeError if no blocks ran before the policy decides."""
        if self.first_residual is None:
            raise RuntimeError(
                "this policy needs the residual of the first blocks, but this adapter does not run them separately"
            )
        return self.first_residual


class CachePolicy(ABC):
    """Makes decisions for groups of rows during one run. Only `decide` is required.

    A computed step calls `decide`, `observe_probe` for each probe, `observe_output`, `take_measurements`,
    `observe_forecast` and `end_computed_step`, in this order. A skipped step calls only `decide`.

    Args:
        groups: the rows of each group; every row belongs to exactly one group.

    Attributes:
        team: the processes that make the video together, usually this one alone; set when the run begins. A policy that
            reads a device by itself, before it decides, reads through `Team.read`; measurements that it returns from
            `take_measurements` are added up for it.
    """

    team: Team = Team()

    def __init__(self, groups: list[list[int]]) -> None:
        self.groups = groups

    def keep_rows(self, rows: Tensor) -> None:
        """Continue with only some of the rows, int64 [r], renumbered 0..r−1. Every group keeps some of its rows.

        Called when a pipeline switches guidance off during a run, and when `guidance_reuse` begins to leave rows out.
        Override it in a policy that holds tensors by row.
        """
        place = {row: index for index, row in enumerate(rows.tolist())}
        self.groups = [[place[row] for row in group if row in place] for group in self.groups]

    @property
    def rates(self) -> list[int]:
        """The current rate of each group; 1 for a policy that does not plan ahead."""
        return [1] * len(self.groups)

    @property
    def needs_timestep(self) -> bool:
        """Whether the timestep must be read as a number before the stack runs, which synchronizes on every step."""
        return False

    @property
    def measures_probes(self) -> bool:
        """Whether the probes are still observed; once not, what was stored of them is dropped."""
        return True

    @property
    def share(self) -> float | None:
        """Fraction of the stack's residuals that compute in the open step; None if all of them or none do."""
        return None

    def rows_of(self, chosen: Sequence[bool]) -> list[int]:
        """Return the rows of the chosen groups in increasing order."""
        return sorted(row for group, taken in zip(self.groups, chosen, strict=True) if taken for row in group)

    def pooled(self, computed: Sequence[bool], measured: list[list[list[float]]]) -> list[list[list[float]] | None]:
        """Return the sums of each measurement over the rows of each group; None for groups that did not compute."""
        place = {row: index for index, row in enumerate(self.rows_of(computed))}
        return [
            [column_sums(rows[place[row]] for row in group) for rows in measured] if did else None
            for group, did in zip(self.groups, computed, strict=True)
        ]

    @abstractmethod
    def decide(self, view: StackView) -> list[bool]:
        """Return, for each group, whether this step computes."""

    def observe_probe(self, step: int, old: Tensor, new: Tensor, num_frames: int) -> None:
        """Receive the old and the new residual [r, N, C] of a probe on a computed step.

        Args:
            step: counted from 1.
            old: residual at the last computed step.
            new: residual at this step.
            num_frames: T, the number of frames of the whole video; see `Team.whole_sequence`.
        """
        return None

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        """Receive the output [r, N, C] of the stack for the rows that computed (None: all rows)."""
        return None

    def take_measurements(self) -> Sequence[Tensor]:
        """Return the measurements of a computed step to be read on the host: float32 [r, sums] per probe."""
        return ()

    def observe_forecast(self, missed: Mapping[int, MissedForecast]) -> None:
        """Receive row → ‖r − forecast‖₂², ‖r‖₂² of the stack residual on a computed step; empty without a forecast."""
        return None

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        """Receive the measurements of a computed step; return a decision per group, or None for groups without one.

        Args:
            step: counted from 1.
            computed: whether each group computed; the rows of these groups were observed in increasing order.
            measured: `take_measurements` as numbers: for each probe, for each row that computed, its sums.
        """
        return [None] * len(self.groups)
