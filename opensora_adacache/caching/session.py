"""One cached run after another on one model: counters, stored residuals, trace, lifecycle.

A host (see `opensora_adacache.adapters`) calls the session from inside the model's forward pass; the sampler knows
nothing of it. Letters: R rows of a batch (videos × guidance halves), N tokens, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from opensora_adacache.caching.config import CacheConfig
from opensora_adacache.caching.policy import CachePolicy, Decision, StackView
from opensora_adacache.caching.residuals.corrector import Corrector
from opensora_adacache.caching.residuals.measured_forecast import ForecastResidual
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import StackResidual
from opensora_adacache.caching.timer import Timer
from opensora_adacache.caching.trace import StepRecord


@dataclass
class _Step:
    """A finished step as it is kept until the trace is read (a timer may still be running on the device)."""

    number: int
    computed: list[bool]
    decisions: list[Decision | None]
    rates: list[int]
    rows_computed: int
    timer: Timer
    share: float | None


@dataclass
class _Run:
    """All mutable state of one run; a new run starts with a new one."""

    policy: CachePolicy
    shape: torch.Size
    row_order: Tensor
    timestep: Tensor
    store: ResidualStore
    stack: StackResidual | ForecastResidual
    corrector: Corrector | None
    step: int = 0
    computed: list[bool] = field(default_factory=list)
    rows: Tensor | None = None
    timesteps: list[Tensor] = field(default_factory=list)
    last_timestep: float | None = None
    end_of_previous: float | None = None
    steps: list[_Step] = field(default_factory=list)


@dataclass(frozen=True)
class RowSplit:
    """What a step does with the rows of a batch.

    Attributes:
        computes: whether any row computes.
        rows: int64 index of the rows that compute; None where all do, or none.
        reused: index of the other rows; None where `rows` is.
    """

    computes: bool
    rows: Tensor | None = None
    reused: Tensor | None = None


class CacheSession:
    """The cache of a model: attached by `apply_cache`, taken off by `detach` or at the end of a ``with`` block.

    A run is `num_sampling_steps` calls of the model; the next call starts a new run. A run that raised inside the
    model is forgotten, so the next one starts clean.

    Args:
        config: settings of the policy.
        num_sampling_steps: n, as the sampler has it.
        guidance_in_batch: whether a batch of the model is [prompts; nulls], so that row i and row i + R/2 are the two
            guidance halves of one video.
    """

    def __init__(self, config: CacheConfig, num_sampling_steps: int, guidance_in_batch: bool = True) -> None:
        self.config = config
        self.num_sampling_steps = num_sampling_steps
        self.guidance_in_batch = guidance_in_batch
        self.on_detach: Callable[[], None] = lambda: None
        self._run: _Run | None = None
        self._peak_bytes = 0

    # What a user sees

    def __enter__(self) -> CacheSession:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self.detach()
        step = self._run.step if self._run else 0
        if exception_type is None and 0 < step < self.num_sampling_steps:
            warnings.warn(
                f"only {step} of {self.num_sampling_steps} steps ran before the cache was detached: "
                "give apply_cache the sampler's num_sampling_steps",
                stacklevel=2,
            )

    def detach(self) -> None:
        """Take the cache off the model and free the stored residuals; the trace stays."""
        self.on_detach()
        self.on_detach = lambda: None
        if self._run:
            self._note_peak()
            self._run.store.clear()

    def reset(self) -> None:
        """Forget the current run, so that the next call of the model is step 1."""
        if self._run:
            self._note_peak()
        self._run = None

    @property
    def traces(self) -> list[list[StepRecord]]:
        """The trace of the latest run: one list for each video with ``decision="sample"``, else one list."""
        if self._run is None:
            return []
        num_groups = len(self._run.policy.groups)
        return [[_record(step, group) for step in self._run.steps] for group in range(num_groups)]

    @property
    def trace(self) -> list[StepRecord]:
        """The trace of the latest run where there is just one.

        Raises:
            ValueError: there are several, one for each video; see `traces`.
        """
        traces = self.traces
        if len(traces) > 1:
            raise ValueError(f"this run has {len(traces)} traces, one for each video: use session.traces")
        return traces[0] if traces else []

    @property
    def run_peak_bytes(self) -> int:
        """The most bytes that cached residuals held in the latest run; 0 after `reset`."""
        return self._run.store.peak_bytes if self._run else 0

    def cache_bytes(self) -> int:
        """Return the bytes held by cached residuals now."""
        return self._run.store.num_bytes() if self._run else 0

    @property
    def peak_cache_bytes(self) -> int:
        """The most bytes that cached residuals held in any run of the session."""
        self._note_peak()
        return self._peak_bytes

    # What a host calls

    @contextmanager
    def model_call(self, latents: Tensor, timestep: Tensor) -> Iterator[None]:
        """Span one call of the model: opens the step, closes it, and forgets the run if the call raises.

        Args:
            latents: input of the model; its first axis has the R rows.
            timestep: [R], falling from call to call.
        """
        try:
            run = self._open_step(latents, timestep)
            timer = Timer(latents.device)
            yield
            timer.stop()
            self._close_step(run, timer)
        except BaseException:
            self.reset()
            raise

    def run_stack(
        self,
        view: StackView,
        compute: Callable[[Tensor, Tensor | None], Tensor],
        reuse: Callable[[Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        """Ask the policy, then send the rows that compute through `compute` and the others through `reuse`.

        Both are called with their rows of `view.x` and the rows' index (None for all of them).
        """
        split = self.decide(view)

        def computed(x: Tensor, rows: Tensor | None) -> Tensor:
            out = compute(x, rows)
            self.observe_output(view, out, rows)
            return out

        if not split.computes:
            return reuse(view.x, None)
        if split.reused is None:
            return computed(view.x, None)
        out = torch.empty_like(view.x)
        out[split.rows] = computed(view.x[split.rows], split.rows)
        out[split.reused] = reuse(view.x[split.reused], split.reused)
        return out

    def decide(self, view: StackView) -> RowSplit:
        """Ask the policy which rows compute; for a host whose blocks run one by one, outside of `run_stack`."""
        run = self._current()
        run.computed = run.policy.decide(view)
        if all(run.computed) or not any(run.computed):
            return RowSplit(any(run.computed))
        run.rows = self._rows(run, computed=True)
        return RowSplit(True, run.rows, self._rows(run, computed=False))

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        """Show the policy the stack's output [r, N, C] for the rows that computed (None: all)."""
        self._current().policy.observe_output(view, out, rows)

    def keep_residual(self, after: Tensor, before: Tensor, rows: Tensor | None) -> None:
        """Keep what the stack added to its input [r, N, C], for the rows that computed (None: all)."""
        run = self._current()
        run.stack.update(after, before, rows, run.step, run.timestep)

    def add_residual(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Return x plus the stack's residual expected at this step, for those rows [r, N, C] (None: all)."""
        run = self._current()
        return run.stack.add_to(x, rows, run.step, run.timestep)

    def correct(self, out: Tensor) -> Tensor:
        """Return the model's output [R, …] with what it corrects of the skipped steps before it (`Corrector`).

        Where it has more channels than the latents, those beyond are a variance that no rectified flow reads.
        """
        run = self._current()
        if run.corrector is None:
            return out
        moving, others = out[:, : run.shape[1]], out[:, run.shape[1] :]
        is_last = run.step == self.num_sampling_steps
        corrected = run.corrector.correct(moving, run.timestep, any(run.computed), run.rows, is_last)
        return out if corrected is moving else torch.cat([corrected, others], dim=1)

    def observe(self, site: str, residual: Tensor, num_frames: int) -> None:
        """Show the policy the residual [r, N, C] of a probe site on a computed step, and keep it."""
        run = self._current()
        if site in run.store:
            run.policy.observe_probe(run.step, run.store.get(site, run.rows), residual, num_frames)
        run.store.put(site, residual, run.rows)

    @property
    def num_steps_done(self) -> int:
        """Steps of the current run up to now; 0 before it starts."""
        return self._run.step if self._run else 0

    @property
    def step(self) -> int:
        """The step that is open, counted from 1."""
        return self._current().step

    @property
    def timestep(self) -> Tensor:
        """The timesteps [R] of the step that is open."""
        return self._current().timestep

    @property
    def time(self) -> float | None:
        """The timestep of the open step as a number, if it has been read."""
        run = self._current()
        return None if run.timesteps else run.last_timestep

    @property
    def policy(self) -> CachePolicy:
        """The policy of the current run."""
        return self._current().policy

    @property
    def store(self) -> ResidualStore:
        """The stored residuals of the current run."""
        return self._current().store

    # Lifecycle of a run

    def _current(self) -> _Run:
        if self._run is None:
            raise RuntimeError("no step is open: the blocks ran outside a call of the model")
        return self._run

    def _open_step(self, latents: Tensor, timestep: Tensor) -> _Run:
        run = self._run
        if run is None or run.step == self.num_sampling_steps:
            run = self._start_run(latents, timestep, previous=run)
        if latents.shape != run.shape:
            raise ValueError(
                f"latents changed from {tuple(run.shape)} to {tuple(latents.shape)} at step {run.step + 1} of "
                f"{self.num_sampling_steps}: a run keeps one shape; call session.reset() before a new one"
            )
        run.step += 1
        run.timesteps.append(timestep.detach().flatten()[:1])
        if timestep.device.type == "cpu" or run.policy.needs_timestep:
            self._check_timesteps(run, [float(t) for t in run.timesteps])
        run.timestep = timestep
        run.computed = []
        run.rows = None
        return run

    def _start_run(self, latents: Tensor, timestep: Tensor, previous: _Run | None) -> _Run:
        self.reset()
        num_rows = latents.shape[0]
        policy = self.config.build(self.num_sampling_steps, self._groups(num_rows))
        store = ResidualStore()
        kind = ForecastResidual if self.config.measures_forecast else StackResidual
        stack = kind(store, self.config.forecast, num_rows, latents.device)
        corrector = Corrector(store, self.config.corrector) if self.config.corrector else None
        order = torch.arange(num_rows, device=latents.device)
        self._run = _Run(policy, latents.shape, order, timestep, store, stack, corrector)
        self._run.end_of_previous = previous.last_timestep if previous else None
        return self._run

    def _groups(self, num_rows: int) -> list[list[int]]:
        """Return the rows that decide together."""
        if self.config.decision == "batch":
            return [list(range(num_rows))]
        if not self.guidance_in_batch:
            return [[row] for row in range(num_rows)]
        if num_rows % 2:
            raise ValueError(
                f"decision='sample' needs both guidance halves of each video in the batch, got {num_rows} rows; "
                "use decision='batch'"
            )
        half = num_rows // 2
        return [[row, row + half] for row in range(half)]

    def _close_step(self, run: _Run, timer: Timer) -> None:
        rows = run.policy.rows_of(run.computed)
        decisions: list[Decision | None] = [None] * len(run.policy.groups)
        if rows:
            measured, sums, timesteps = _read(
                run.policy.take_measurements(), run.stack.take_measurements(), run.timesteps
            )
            self._check_timesteps(run, timesteps)
            assert run.last_timestep is not None  # that of this step: it was read just now, or on the CPU before
            run.policy.observe_forecast(run.stack.end_computed_step(rows, sums, run.last_timestep))
            decisions = run.policy.end_computed_step(run.step, run.computed, measured)
        rates = run.policy.rates
        run.steps.append(_Step(run.step, run.computed, decisions, rates, len(rows), timer, run.policy.share))

    def _check_timesteps(self, run: _Run, timesteps: list[float]) -> None:
        """Raise ValueError where a timestep rises within a run, or falls from one run to the next.

        A rise within a run means that another run began; a fall at its start, that the sampler goes on. Equal ones
        pass: half precision cannot tell neighbouring timesteps of a long run apart.
        """
        run.timesteps.clear()
        for timestep in timesteps:
            before, end = run.last_timestep, run.end_of_previous
            if before is None and end is not None and timestep < end:
                raise ValueError(
                    f"the sampler goes on to timestep {timestep:g} after {self.num_sampling_steps} steps: "
                    "give apply_cache the sampler's num_sampling_steps"
                )
            if before is not None and timestep > before:
                raise ValueError(
                    f"timestep went from {before:g} to {timestep:g} by step {run.step} of {self.num_sampling_steps}, "
                    "it must fall: give apply_cache the sampler's num_sampling_steps, and call session.reset() "
                    "after an interrupted run"
                )
            run.last_timestep = timestep

    def _rows(self, run: _Run, computed: bool) -> Tensor:
        """Return the rows, rising, of the groups that computed or not; built without a copy from the host."""
        rows = run.policy.rows_of([did == computed for did in run.computed])
        return torch.cat([run.row_order[row : row + 1] for row in rows])

    def _note_peak(self) -> None:
        if self._run:
            self._peak_bytes = max(self._peak_bytes, self._run.store.peak_bytes)


def _read(policy: Tensor, stack: Tensor, timesteps: list[Tensor]) -> tuple[list, list, list[float]]:
    """Bring a step's measurements and the timesteps seen since the last ones to the host, in one synchronisation.

    Args:
        policy: what the policy measured, [sites, r, sums].
        stack: what the stack residual did, [r, sums].
        timesteps: each [1].
    """
    tensors = [policy, stack, *timesteps]
    parts = [tensor.flatten() for tensor in tensors if tensor.numel()]  # an empty one has no device of its own
    numbers = iter(torch.cat(parts).tolist() if parts else [])
    num_sites, num_rows, num_sums = policy.shape
    sites = [[[next(numbers) for _ in range(num_sums)] for _ in range(num_rows)] for _ in range(num_sites)]
    sums = [[next(numbers) for _ in range(stack.shape[1])] for _ in range(stack.shape[0])]
    return sites, sums, list(numbers)


def _record(step: _Step, group: int) -> StepRecord:
    decision = step.decisions[group]
    return StepRecord(
        step=step.number,
        computed=step.computed[group],
        distance=decision.distance if decision else None,
        motion=decision.motion if decision else None,
        motion_gradient=decision.motion_gradient if decision else None,
        rate=step.rates[group],
        rows_computed=step.rows_computed,
        milliseconds=step.timer.milliseconds(),
        share=step.share,
    )
