"""The session of a cached model: what users read from a cache and what adapters call.

An adapter (see `opensora_adacache.adapters`) calls the session from inside the model's forward pass; the sampler is not
aware of it. Letters: R batch rows (videos × guidance branches), N tokens, C channels.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.groups import groups_of
from opensora_adacache.caching.guidance.branches import BranchPair, ModelRows, Rows, run_aside, run_branch, run_in_batch
from opensora_adacache.caching.guidance.unconditional import PLAIN, Picture, unconditional_of
from opensora_adacache.caching.observed_step import ObservedStep
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.run_state import FinishedStep, OpenStep, RowSplit, Run, records
from opensora_adacache.caching.team import Team
from opensora_adacache.caching.team_check import check_team
from opensora_adacache.caching.timer import Timer
from opensora_adacache.caching.timesteps import REMEDY
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.errors.family import AdaCacheWarning

MAX_RUNS_KEPT = 100
# What to do where `check_idle` finds a call in progress.
DETACH_OUTSIDE = "detach the cache before or after a call of the model, not within it"
ONE_THREAD = "a model with a cache cannot run in two threads at once; give each thread a model of its own"


class CacheSession:
    """The cache of a model. `apply_cache` attaches it; `detach` or the end of a ``with`` block removes it.

    A run is `num_sampling_steps` calls of the model; the next call starts a new run. If a call of the model raises, its
    run is dropped, so the next one starts clean.

    Args:
        config: settings of the policy.
        num_sampling_steps: n, the number of steps that the sampler takes.
        branches_in_batch: number of guidance branches of each video in a batch of the model: with 2, rows i and i + R/2
            belong to one video; with 1, each row is a video.
        prompts_last: whether the conditional rows are the second half of such a batch, as in diffusers; Open-Sora puts
            them first. These rows remain when guidance is switched off during a run.

    Attributes:
        on_step: called with an `ObservedStep` after each call of the model; an exception that it raises ends the run.
        output_weights: called with the number of steps when a run begins whose settings have a corrector; returns how
            far the output of each step moves the final latents. None on a rectified flow; see `Corrector`.
        find_team: returns the processes that make the videos of a new run together; set by the adapter.
        pair: what this session shares with that of the other guidance branch, if guidance takes two calls and the
            settings reuse guidance.
        is_unconditional: whether it is the unconditional one of the two.
        is_aside: whether rows run as if no cache was attached, within a call of the model.
    """

    def __init__(
        self,
        config: CacheConfig,
        num_sampling_steps: int,
        branches_in_batch: int = 2,
        prompts_last: bool = False,
    ) -> None:
        self.config = config
        self.num_sampling_steps = num_sampling_steps
        self.branches_in_batch = branches_in_batch
        self.prompts_last = prompts_last
        self.on_detach: Callable[[], None] = lambda: None
        self.on_step: Callable[[ObservedStep], None] = lambda step: None
        self.output_weights: Callable[[int], Sequence[float]] | None = None
        self.find_team: Callable[[], Team] = Team
        self.pair: BranchPair | None = None
        self.is_unconditional = self.is_aside = False
        self._run: Run | None = None
        self._runs_before: deque[tuple[list[FinishedStep], int]] = deque(maxlen=MAX_RUNS_KEPT)
        self._peak_bytes = 0

    # What a user sees

    def __enter__(self) -> CacheSession:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self.detach()
        if exception_type is None and self.is_unfinished:
            warnings.warn(
                f"only {self.num_steps_done} of {self.num_sampling_steps} steps ran before the cache was detached: "
                f"{REMEDY}",
                AdaCacheWarning,
                stacklevel=2,
            )

    def detach(self) -> None:
        """Remove the cache from the model and free the stored residuals; the trace is kept.

        Raises:
            RuntimeError: a call of the model is in progress.
        """
        self.check_idle(DETACH_OUTSIDE)
        self.on_detach()
        self.on_detach = lambda: None
        # what adapters have set leads to the model, and a user may keep the session for its traces
        self.find_team, self.output_weights, self.pair = Team, None, None
        if self._run:
            self._note_peak()
            self._run.clear()

    def reset(self) -> None:
        """Drop the current run, so that the next call of the model is step 1."""
        self._drop_run()
        self._runs_before.clear()

    @property
    def traces(self) -> list[list[StepRecord]]:
        """The traces of the latest run: one list per video with ``decision="sample"``, otherwise a single list."""
        return [] if self._run is None else records(self._run.steps, len(self._run.policy.groups))

    @property
    def runs(self) -> list[list[list[StepRecord]]]:
        """The `traces` of each run since the sampler began: one per chunk of an autoregressive pipeline.

        Pipelines of diffusers say when they end. Other samplers do not, so that the runs of their earlier calls come
        first; the last hundred are kept.
        """
        return [*(records(*run) for run in self._runs_before), self.traces] if self._run else []

    @property
    def trace(self) -> list[StepRecord]:
        """The trace of the latest run, if there is only one.

        Raises:
            ValueError: there are several traces, one per video; use `traces`.
        """
        traces = self.traces
        if len(traces) > 1:
            raise ValueError(f"this run has {len(traces)} traces, one for each video: use session.traces")
        return traces[0] if traces else []

    def cache_bytes(self) -> int:
        """Return the number of bytes that cached residuals hold now; 0 after the last step of a run."""
        return self._run.num_bytes() if self._run else 0

    @property
    def peak_cache_bytes(self) -> int:
        """The largest number of bytes that cached residuals held in any run of the session."""
        self._note_peak()
        return self._peak_bytes

    @property
    def run_peak_bytes(self) -> int:
        """The largest number of bytes that cached residuals held in the latest run; 0 after `reset`."""
        return self._run.peak_bytes if self._run else 0

    # What an adapter calls

    @contextmanager
    def model_call(self, latents: Tensor, timestep: Tensor, step_index: int | None = None) -> Iterator[None]:
        """Wrap one call of the model: open the step, close it, and drop the run if the call raises.

        Args:
            latents: input of the model; its first axis has R rows.
            timestep: [R], decreasing from call to call.
            step_index: step index of the pipeline, if it provides one.

        Raises:
            RuntimeError: another call of the model is in progress.
        """
        self.check_idle(ONE_THREAD)
        try:
            run = self._run
            if run is None or self.begins_run(timestep, step_index):
                run = self._new_run(latents)
            rows = run.rows_to_run(len(latents), self.prompts_last)
            held, times = latents, timestep
            if rows is not None:
                held, times = latents[rows], timestep[rows] if len(timestep) == len(latents) else timestep
            run.open_step(held, times, step_index, self.prompts_last, rows)
            timer = Timer(latents.device)
            yield
            timer.stop()
            step = run.open
            assert step is not None
            run.close_step(step, timer)
            found = run.steps[-1].decisions
            distances = tuple(one.distance if one else None for one in found)
            motions = tuple(one.motion if one else None for one in found)
            self.on_step(ObservedStep(step.number - 1, timestep, latents, tuple(step.computed), distances, motions))
        except BaseException:
            self.reset()
            raise

    def run_model(self, forward: Callable[[Rows], Tensor], picture: Picture = PLAIN) -> Tensor:
        """Return the output of the open step for all rows of its call, corrected if the settings enable it.

        Args:
            forward: runs the model on rows of the call and returns its output. It must ignore the cache while
                `is_aside` is set.
            picture: where the pictures of the output are, which tells low from high frequencies.
        """
        run, step = self._current()
        model = ModelRows(forward, partial(run_aside, self, forward), self.correct, picture)
        if self.pair is not None:
            return run_branch(run, step, model, self.pair, self.is_unconditional)
        return run_in_batch(run, step, model, self.prompts_last)

    @property
    def complete(self) -> frozenset[int]:
        """The groups that compute every site in the open step; see `StackView.complete`."""
        return self._current()[0].complete_groups()

    def run_stack(
        self,
        view: StackView,
        compute: Callable[[Tensor, Tensor | None], Tensor],
        reuse: Callable[[Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        """Ask the policy, then pass the rows that compute to `compute` and the others to `reuse`.

        Both receive their rows of `view.x` and the index of these rows (None for all rows that this process holds).
        """
        split = self.decide(view)

        def computed(x: Tensor, rows: Tensor | None) -> Tensor:
            out = compute(x, rows)
            self.observe_output(view, out, rows)
            return out

        return split.run(view.x, computed, reuse)

    def decide(self, view: StackView) -> RowSplit:
        """Ask the policy which rows compute; for adapters that run blocks one by one, outside of `run_stack`."""
        run, step = self._current()
        run.residual.observe_first(view.first_residual)
        return run.decide(step, run.policy.decide(view))

    def parts(self, values: Sequence[int]) -> list[tuple[int, Tensor | None]]:
        """Return the distinct ones of one value per group, each with the index of its rows (None: all rows)."""
        return self._current()[0].parts(values)

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        """Pass the stack's output [r, N, C] to the policy for the rows that computed (None: all rows)."""
        self.policy.observe_output(view, out, rows)

    def keep_residual(self, after: Tensor, before: Tensor, rows: Tensor | None) -> None:
        """Store what the stack added to its input [r, N, C], for the rows that computed (None: all rows)."""
        run, step = self._current()
        run.residual.update(after, before, rows, step.number, step.timestep)

    def add_residual(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Return x plus the stack's residual expected at this step, for these rows [r, N, C] (None: all rows)."""
        run, step = self._current()
        return run.residual.add_to(x, rows, step.number, step.timestep)

    def correct(self, out: Tensor) -> Tensor:
        """Return the model's output [R, …], corrected for the preceding skipped steps if the settings enable it.

        At computed steps the sum of the output is kept and read with the measurements, which detects non-finite outputs
        (see `Corrector` for the correction). If the output has more channels than the latents, the extra channels are a
        variance that no rectified flow reads.
        """
        run, step = self._current()
        return run.correct(step, out)

    def observe(self, site: str, residual: Tensor, num_frames: int) -> None:
        """Pass the residual [r, N, C] of a probe to the policy on a computed step, and store it.

        Args:
            site: name of the probe.
            residual: the residual; of the frames that this process holds, if a team has split the video.
            num_frames: number of frames of the whole video.
        """
        run, step = self._current()
        if not run.policy.measures_probes:
            run.store.drop(site)
            return
        if site in run.store:
            run.policy.observe_probe(step.number, run.store.get(site, step.rows), residual, num_frames)
        run.store.put(site, residual, step.rows)

    def begins_run(self, timestep: Tensor, step_index: int | None = None) -> bool:
        """Return whether a call with this timestep [R] begins a run; if it ends an unfinished one, warn."""
        run = self._run
        if run is None or not run.is_unfinished:
            return True
        if not run.timesteps.begins_anew(timestep, step_index):
            return False
        self.end_run()
        warnings.warn(
            f"the sampler begins a new run after {len(run.steps)} of {self.num_sampling_steps} steps, so the "
            f"unfinished one is forgotten. If it was not interrupted: {REMEDY}",
            AdaCacheWarning,
            stacklevel=4,
        )
        return True

    def end_run(self) -> None:
        """Record that the sampler has ended, even if steps are left: the next call begins a new run."""
        if self._run:
            self._run.has_ended = True
            self._run.clear()

    @property
    def is_unfinished(self) -> bool:
        """Whether a run has begun and expects further steps."""
        return self._run is not None and self._run.is_unfinished

    @property
    def has_run_through(self) -> bool:
        """Whether the run has taken all of its steps, and nobody has said that the sampler has ended."""
        run = self._run
        return run is not None and not run.has_ended and len(run.steps) == self.num_sampling_steps

    def check_idle(self, remedy: str) -> None:
        """Raise RuntimeError if a call of the model is in progress."""
        if self._run is not None and self._run.open is not None:
            raise RuntimeError(f"a call of this model is in progress already: {remedy}")

    @property
    def num_steps_done(self) -> int:
        """Number of steps of the current run so far, including the open one; 0 before it starts."""
        return self._run.num_steps_opened if self._run else 0

    def has_another_shape(self, latents: Tensor) -> bool:
        """Return whether latents [R, …] have another shape than those of the current run, or more rows."""
        run = self._run
        return run is not None and (run.shape[1:] != latents.shape[1:] or run.grows_to(len(latents)))

    @property
    def step(self) -> int:
        """The open step, counted from 1."""
        return self._current()[1].number

    @property
    def timestep(self) -> Tensor:
        """The timesteps [R] of the open step."""
        return self._current()[1].timestep

    @property
    def time(self) -> float | None:
        """The timestep of the open step as a number, if it has been read."""
        return self._current()[0].timesteps.current

    @property
    def team(self) -> Team:
        """The processes that make the videos of the current run together."""
        return self._current()[0].team

    @property
    def policy(self) -> CachePolicy:
        """The policy of the current run."""
        return self._current()[0].policy

    @property
    def store(self) -> ResidualStore:
        """The stored residuals of the current run."""
        return self._current()[0].store

    # Lifecycle of a run

    def _current(self) -> tuple[Run, OpenStep]:
        if self._run is None or self._run.open is None:
            raise RuntimeError("no step is open: the blocks ran outside a call of the model")
        return self._run, self._run.open

    def _new_run(self, latents: Tensor) -> Run:
        """Begin the run of a call, and return it."""
        run, end_of_previous = self._run, None
        if run is not None and self.has_run_through:
            end_of_previous = run.timesteps.last
            self._runs_before.append((run.steps, len(run.policy.groups)))
        else:
            self._runs_before.clear()
        self._drop_run()
        team = self.find_team()
        check_team(self.config, team)
        groups = groups_of(self.config.decision, len(latents), self.branches_in_batch)
        weights = None
        if self.config.corrector and self.output_weights is not None:
            weights = self.output_weights(self.num_sampling_steps)
        in_batch = self.branches_in_batch if self.pair is None else 0 if self.is_unconditional else None
        other = unconditional_of(self.config.guidance_reuse, self.num_sampling_steps, latents, in_batch)
        self._run = Run(self.config, self.num_sampling_steps, groups, latents, end_of_previous, weights, team, other)
        return self._run

    def _drop_run(self) -> None:
        self._note_peak()
        self._run = None

    def _note_peak(self) -> None:
        if self._run:
            self._peak_bytes = max(self._peak_bytes, self._run.peak_bytes)
