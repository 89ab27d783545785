"""All mutable state of one run; each run starts with a fresh object.

Letters: R batch rows (videos × guidance branches).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.caching.contract import CacheConfig, Decision
from opensora_adacache.caching.guidance.unconditional import UnconditionalOutput
from opensora_adacache.caching.readout import read
from opensora_adacache.caching.residuals.base import StackResidual
from opensora_adacache.caching.residuals.corrector import Corrector
from opensora_adacache.caching.residuals.measured_error import MeasuredError
from opensora_adacache.caching.residuals.predictors import make_predictor
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.team import Team
from opensora_adacache.caching.timer import Timer
from opensora_adacache.caching.timesteps import Timesteps
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.errors.family import AdaCacheWarning


@dataclass(frozen=True)
class RowSplit:
    """Which rows of a batch that this process holds compute in a step and which reuse.

    Attributes:
        computes: whether any row computes.
        rows: int64 index of the rows that compute; None if all rows or no rows do.
        reused: index of the other rows; None if `rows` is None.
    """

    computes: bool
    rows: Tensor | None = None
    reused: Tensor | None = None

    def run(
        self,
        x: Tensor,
        compute: Callable[[Tensor, Tensor | None], Tensor],
        reuse: Callable[[Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        """Pass the rows of x [r, …] that compute and those that reuse to a function each, and join what they return."""
        if not self.computes:
            return reuse(x, None)
        if self.rows is None or self.reused is None:
            return compute(x, None)
        out = torch.empty_like(x)
        out[self.rows] = compute(x[self.rows], self.rows)
        out[self.reused] = reuse(x[self.reused], self.reused)
        return out


@dataclass(frozen=True)
class FinishedStep:
    """A step as it is kept until the trace is read; its timer may still be running on the device."""

    number: int
    computed: list[bool]
    decisions: list[Decision | None]
    rates: list[int]
    rows_computed: int
    timer: Timer
    share: float | None
    rebuilt: list[bool]

    def record(self, group: int) -> StepRecord:
        """Return the record of a group. Waits for the device."""
        decision = self.decisions[group]
        return StepRecord(
            step=self.number,
            computed=self.computed[group],
            distance=decision.distance if decision else None,
            motion=decision.motion if decision else None,
            motion_gradient=decision.motion_gradient if decision else None,
            rate=self.rates[group],
            rows_computed=self.rows_computed,
            milliseconds=self.timer.milliseconds(),
            share=self.share,
            rebuilt=self.rebuilt[group],
        )


@dataclass
class OpenStep:
    """The step in progress.

    Attributes:
        number: counted from 1.
        timestep: [R].
        computed: whether each group computes; empty until the policy has decided.
        rows: index of the rows that compute, among those that this process holds; None if all rows or no rows do.
        all_rows: the same among the rows of all guidance branches.
        output: sum of the model's output for each row that computed, [r], if available.
        call_rows: rows of the call that the step runs; None for all of them.
        refreshed: videos whose unconditional rows run beside those of the step; None if the step leaves no rows out.
        follows: whether the step belongs to the unconditional branch alone and takes over the decision of the other
            one, so that no policy is asked.
    """

    number: int
    timestep: Tensor
    call_rows: slice | None = None
    computed: list[bool] = field(default_factory=list)
    rows: Tensor | None = None
    all_rows: Tensor | None = None
    output: Tensor | None = None
    refreshed: list[int] | None = None
    follows: bool = False


class Run:
    """One run: its policy, stored residuals, finished steps and open step.

    Args:
        config: settings of the policy.
        num_sampling_steps: n.
        groups: rows that decide together.
        latents: input of the first step [R, …]; every step has the same shape.
        end_of_previous: last timestep of the previous run, if there was one.
        output_weights: how far the output of each step moves the final latents; None on a rectified flow (`Corrector`).
        team: the processes that make the videos together.
        unconditional: rebuilds the unconditional output, if the settings leave rows out.
    """

    def __init__(
        self,
        config: CacheConfig,
        num_sampling_steps: int,
        groups: list[list[int]],
        latents: Tensor,
        end_of_previous: float | None,
        output_weights: Sequence[float] | None = None,
        team: Team | None = None,
        unconditional: UnconditionalOutput | None = None,
    ) -> None:
        self.unconditional = unconditional
        self.num_sampling_steps = num_sampling_steps
        self.shape = latents.shape
        self.team = team = team or Team()
        self.policy = config.build(num_sampling_steps, groups)
        self.policy.team = team
        self.store = ResidualStore(on_cpu=config.residual_device == "cpu")
        held = team.rows(self.shape[0])
        self.residual = _residual(config, self.store, held.stop - held.start, latents.device)
        if team.num_branches > 1:
            self.residual.place_among(self.shape[0], held.start)
        self.corrector = Corrector(self.store, config.corrector, output_weights) if config.corrector else None
        self.timesteps = Timesteps(num_sampling_steps, end_of_previous)
        self.steps: list[FinishedStep] = []
        self.open: OpenStep | None = None
        self.has_ended = False
        # groups with non-finite measurements; they compute all further steps
        self._broken = [False] * len(groups)
        self._row_order = torch.arange(self.shape[0], device=latents.device)

    @property
    def num_steps_opened(self) -> int:
        """Number of steps so far, including the open one."""
        return len(self.steps) + (self.open is not None)

    @property
    def is_unfinished(self) -> bool:
        """Whether further steps are expected."""
        return not self.has_ended and 0 < len(self.steps) < self.num_sampling_steps

    def rows_to_run(self, num_rows: int, prompts_last: bool) -> slice | None:
        """Return the rows of the next call that its step runs: the conditional ones, or None for all of them.

        Args:
            num_rows: R of the call.
            prompts_last: whether the conditional rows are the second half.
        """
        pair = self.unconditional
        if pair is None or len(self.steps) + 1 < pair.first_step or num_rows != 2 * pair.num_videos:
            return None
        return slice(pair.num_videos, num_rows) if prompts_last else slice(pair.num_videos)

    def grows_to(self, num_rows: int) -> bool:
        """Return whether a call has more rows than the run, which leaves none of them out."""
        return num_rows > self.shape[0] and self.rows_to_run(num_rows, prompts_last=True) is None

    def open_step(
        self,
        latents: Tensor,
        timestep: Tensor,
        step_index: int | None,
        prompts_last: bool,
        call_rows: slice | None = None,
    ) -> None:
        """Begin the next step.

        Args:
            latents: input of the model.
            timestep: [R] or [1].
            step_index: step index of the pipeline, if it provides one.
            prompts_last: whether the second half of the rows remains when guidance is switched off.
            call_rows: rows of the call that the step runs, to which latents and timestep are restricted; None for all.

        Raises:
            ValueError: the shape of the latents changed, or the timestep rose.
        """
        number = len(self.steps) + 1
        if latents.shape[1:] == self.shape[1:] and 2 * latents.shape[0] == self.shape[0]:
            self._keep_half(second=prompts_last)
        if latents.shape != self.shape:
            raise ValueError(
                f"latents changed from {tuple(self.shape)} to {tuple(latents.shape)} at step {number} of "
                f"{self.num_sampling_steps}: a run keeps one shape; call session.reset() before a new one"
            )
        self.timesteps.add(timestep, step_index)
        if timestep.device.type == "cpu" or self.policy.needs_timestep:
            self.timesteps.read(number)
        # on the device of the rows, also where a hook of the model moves a timestep from the CPU after this
        self.open = OpenStep(number, timestep.to(latents.device, non_blocking=True), call_rows)

    def decide(self, step: OpenStep, decisions: list[bool]) -> RowSplit:
        """Record the policy's decisions for the groups and return what each row does.

        Raises:
            ValueError: there is not one decision for each group, or one to reuse at the first step.
        """
        self._check(decisions)
        step.computed = [wanted or broken for wanted, broken in zip(decisions, self._broken, strict=True)]
        if all(step.computed) or not any(step.computed):
            return RowSplit(any(step.computed))
        computed = self.policy.rows_of(step.computed)
        reused = self.policy.rows_of([not did for did in step.computed])
        step.rows = step.all_rows = self.index(computed)
        if self.team.num_branches == 1:
            return RowSplit(True, step.rows, self.index(reused))
        held = self.team.rows(self.shape[0])
        here, left = (
            [row - held.start for row in rows if held.start <= row < held.stop] for rows in (computed, reused)
        )
        step.rows = self.index(here)
        return RowSplit(True, step.rows, self.index(left))

    def _check(self, decisions: Any) -> None:
        """Raise ValueError if decisions, of a policy from outside perhaps, cannot be followed."""
        name, number = type(self.policy).__name__, len(self.policy.groups)
        if not isinstance(decisions, Sequence) or len(decisions) != number:
            raise ValueError(
                f"decide of {name} must return a list with a bool for each of the {number} groups, got {decisions!r}"
            )
        if not self.steps and not all(decisions):
            raise ValueError(
                f"decide of {name} returned {decisions!r} at step 1, where there is nothing to reuse: return True there"
            )

    def complete_groups(self) -> frozenset[int]:
        """Return the groups whose unconditional rows come back for the open step, which would have left them out."""
        pair, step = self.unconditional, self.open
        if pair is None or step is None or step.call_rows is None:
            return frozenset()
        due = pair.due(step.number, range(pair.num_videos))
        return frozenset(i for i, group in enumerate(self.policy.groups) if not set(group).isdisjoint(due))

    def parts(self, values: Sequence[int]) -> list[tuple[int, Tensor | None]]:
        """Return the distinct ones of one value per group, each with the rows that have it here (None: all rows)."""
        distinct = sorted(set(values))
        if len(distinct) == 1:
            return [(distinct[0], None)]
        held = self.team.rows(self.shape[0])
        found: list[tuple[int, Tensor | None]] = []
        for value in distinct:
            rows = self.policy.rows_of([each == value for each in values])
            here = [row - held.start for row in rows if held.start <= row < held.stop]
            if here:
                found.append((value, self.index(here)))
        return found

    def correct(self, step: OpenStep, out: Tensor) -> Tensor:
        """Return the model's output [R, …], corrected; see `CacheSession.correct`."""
        computes = any(step.computed)
        if computes:
            rows = out if step.all_rows is None else out[step.all_rows]
            step.output = rows.detach().flatten(1).sum(1, dtype=torch.float32)
        if self.corrector is None:
            return out
        moving, others = out[:, : self.shape[1]], out[:, self.shape[1] :]
        is_last = step.number == self.num_sampling_steps
        corrected = self.corrector.correct(moving, step.timestep, computes, step.all_rows, is_last)
        return out if corrected is moving else torch.cat([corrected, others], dim=1)

    def close_step(self, step: OpenStep, timer: Timer) -> None:
        """Read the measurements of a computed step and let the policy decide. The last step frees the residuals."""
        self.residual.observe_first(None)
        rows = self.policy.rows_of(step.computed)
        decisions: list[Decision | None] = [None] * len(self.policy.groups)
        if rows and not step.follows:
            found = read(
                self.policy.take_measurements(),
                self.residual.take_measurements(),
                step.output,
                self.timesteps.unread,
                self.team,
            )
            self.timesteps.check(found.timesteps, step.number)
            assert self.timesteps.last is not None  # of this step: read just now, or earlier on the CPU
            missed = self.residual.end_computed_step(rows, found.residual, self.timesteps.last)
            self.policy.observe_forecast(missed)
            decisions = self.policy.end_computed_step(step.number, step.computed, found.probes)
            if found.broken_rows:
                self._note_broken({rows[place] for place in found.broken_rows}, step.number)
            decisions = [None if broken else one for one, broken in zip(decisions, self._broken, strict=True)]
        refreshed, groups = step.refreshed, self.policy.groups
        left_out = [refreshed is not None and not set(group) <= set(refreshed) for group in groups]
        num_rows = (0 if step.follows else len(rows)) + len(refreshed or ())
        share, rates = (None, [1] * len(groups)) if step.follows else (self.policy.share, self.policy.rates)
        finished = FinishedStep(step.number, step.computed, decisions, rates, num_rows, timer, share, left_out)
        self.steps.append(finished)
        self.open = None
        if len(self.steps) == self.num_sampling_steps:
            self.clear()  # nothing reads it again, and the VAE decodes next, which takes much memory

    def _keep_half(self, second: bool) -> None:
        """Continue with half of the rows after guidance was switched off during the run."""
        half = self.shape[0] // 2
        rows = range(half, 2 * half) if second else range(half)
        if not all(any(row in rows for row in group) for group in self.policy.groups):
            return  # the rows that left decide alone, so they are other videos and not guidance branches
        if self.team.num_branches > 1:
            raise ValueError(
                "guidance was switched off during the run, but its branches are on devices of their own: use one "
                "device for both (parallel.guidance=1)"
            )
        index = self._row_order[rows.start : rows.stop]
        self.store.keep_rows(index)
        self.residual.keep_rows(index)
        if self.corrector is not None:
            self.corrector.keep_rows(index)
        self.policy.keep_rows(index)
        self.shape = torch.Size((half, *self.shape[1:]))
        self._row_order = self._row_order[:half]

    def _note_broken(self, rows: set[int], step: int) -> None:
        if not any(self._broken):
            warnings.warn(
                f"the model's output is not finite at step {step} of {self.num_sampling_steps} (NaN or infinity): the "
                "video is lost, cached or not; try another dtype, or check weights and inputs",
                AdaCacheWarning,
                stacklevel=2,
            )
        for index, group in enumerate(self.policy.groups):
            self._broken[index] |= not rows.isdisjoint(group)

    def index(self, rows: Sequence[int]) -> Tensor:
        """Return rows as an index, created without a copy from the host."""
        return torch.cat([self._row_order[row : row + 1] for row in rows])

    def num_bytes(self) -> int:
        """Return the number of bytes held now."""
        return self.store.num_bytes() + (self.unconditional.store.num_bytes() if self.unconditional else 0)

    @property
    def peak_bytes(self) -> int:
        """The largest number of bytes held so far."""
        return self.store.peak_bytes + (self.unconditional.store.peak_bytes if self.unconditional else 0)

    def clear(self) -> None:
        """Free everything that is stored, also within a step that is not complete."""
        self.store.clear()
        self.corrector = None
        if self.unconditional:
            self.unconditional.store.clear()


def _residual(config: CacheConfig, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
    """Return what provides the stack residual at skipped steps, measured if the policy reads the errors."""
    if config.predictor is None:
        residual = config.build_residual(store, num_rows, device)
    else:
        residual = make_predictor(config.predictor, store, num_rows, device)
    return MeasuredError(residual) if config.reads_forecast_error and not residual.measures_error else residual


def records(steps: list[FinishedStep], num_groups: int) -> list[list[StepRecord]]:
    """Return the trace of each group of rows; waits for the device."""
    return [[step.record(group) for step in steps] for group in range(num_groups)]
