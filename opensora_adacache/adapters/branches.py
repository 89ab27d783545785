"""Caches for a model that a pipeline calls once per guidance branch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from opensora_adacache.adapters.twin_calls import TwinCalls
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.guidance.branches import BranchPair
from opensora_adacache.caching.guidance.settings import active
from opensora_adacache.caching.guidance.unconditional import NO_GUIDANCE
from opensora_adacache.caching.observed_step import ObservedStep
from opensora_adacache.caching.session import DETACH_OUTSIDE, ONE_THREAD, CacheSession
from opensora_adacache.caching.team import Team
from opensora_adacache.caching.timesteps import REMEDY
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.errors.family import AdaCacheWarning

PAIRED_BRANCHES = ("", "cond_uncond")
"""Names of branches whose batch may hold both guidance branches of each video; any other batch holds only videos."""
CONDITIONAL, UNCONDITIONAL = ("cond", "pred_cond"), ("uncond", "pred_uncond")
"""Names of the branches where guidance takes two calls: of pipelines, and of the guiders of modular ones."""


def _never() -> bool:
    return False


def _unknown() -> None:
    return None


class BranchedSession:
    """One `CacheSession` per guidance branch; each branch counts steps, decides and stores residuals separately.

    The pipeline names a branch in ``cache_context(name)``: "cond" and "uncond" if guidance takes two calls,
    "cond_uncond" or no name ("") if it takes one. If a pipeline gives no names but makes several calls per step, each
    call is a separate branch (`TwinCalls`). The methods are those of `CacheSession`; `trace` and `traces` belong to the
    first branch, and `branches` gives access to the others.

    Args:
        config: settings of the policy.
        num_sampling_steps: n, the number of calls of each branch in one run: the length of the scheduler's `timesteps`.
            If it is a function, it is called when a run begins.
        check_run: called with the settings and each new number of steps; raises ValueError if they do not fit.

    Attributes:
        on_step: called after each call of the model with its branch; see `CacheSession.on_step`.
        begins_call: whether the pipeline has begun another call, or chunk, since this was last asked. The runs that an
            earlier one has left unfinished are over then.
        is_interrupted: whether the pipeline was told to leave out its remaining steps, so that none are missing.
        branches: the sessions by branch name, in the order of their first calls.
        config_for: returns the settings for a number of steps. None uses the same ones for all.
        output_weights: see `CacheSession.output_weights`.
        is_unguided: whether the pipeline says that guidance is off.
        is_guided_by_calls: whether the pipeline makes a call for each guidance branch, be it named or not.
        scheduler_position: returns how many steps the pipeline's scheduler has taken; None if it is unknown.
    """

    def __init__(
        self,
        config: CacheConfig,
        num_sampling_steps: int | Callable[[], int],
        check_run: Callable[[CacheConfig, int], None] = lambda config, number: None,
    ) -> None:
        self.config = config
        self.num_sampling_steps = 0 if callable(num_sampling_steps) else num_sampling_steps
        self._count_steps = num_sampling_steps if callable(num_sampling_steps) else None
        self._check_run = check_run
        self.on_step: Callable[[str, ObservedStep], None] = lambda name, step: None
        self.on_detach: Callable[[], None] = lambda: None
        self.on_new_branch: Callable[[str, CacheSession], None] = lambda name, session: None
        self.begins_call: Callable[[], bool] = _never
        self.is_interrupted: Callable[[], bool] = _never
        self.is_unguided: Callable[[], bool] = _never
        self.is_guided_by_calls = False
        self.scheduler_position: Callable[[], int | None] = _unknown
        self.branches: dict[str, CacheSession] = {}
        self.config_for: Callable[[int], CacheConfig] | None = None
        self.output_weights: Callable[[int], Sequence[float]] | None = None
        self.find_team: Callable[[], Team] = Team
        self._twins = TwinCalls()
        self._pair = BranchPair()
        self._round = 0
        self._rounds: dict[str, int] = {}  # by branch, the round of its latest run

    # What a user sees

    def __enter__(self) -> BranchedSession:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        unfinished = self._unfinished()
        self.detach()
        if exception_type is None and unfinished:
            warnings.warn(f"{unfinished} before the cache was detached: {REMEDY}", AdaCacheWarning, stacklevel=2)

    def detach(self) -> None:
        """Remove the cache from the model and free the stored residuals; the traces are kept."""
        self.check_idle(DETACH_OUTSIDE)
        self.on_detach()
        # what adapters have set leads to the model, and a user may keep the session for its traces
        self.on_detach = lambda: None
        self.begins_call = self.is_interrupted = self.is_unguided = _never
        self.scheduler_position = _unknown
        self.find_team, self.output_weights, self.config_for, self._count_steps = Team, None, None, None
        self._check_run = lambda config, number: None
        self._twins.reset()
        self._pair.reset()
        for session in self.branches.values():
            session.detach()

    def reset(self) -> None:
        """Drop the current run of every branch, so that the next call of the model is step 1."""
        self._twins.reset()
        self._pair.reset()
        for session in self.branches.values():
            session.reset()

    @property
    def traces(self) -> list[list[StepRecord]]:
        """The traces of the first branch's latest run; see `CacheSession.traces`."""
        return next((session.traces for session in self.branches.values()), [])

    @property
    def trace(self) -> list[StepRecord]:
        """The trace of the first branch's latest run, if there is only one; see `CacheSession.trace`."""
        return next((session.trace for session in self.branches.values()), [])

    @property
    def runs(self) -> list[list[list[StepRecord]]]:
        """The traces of each run of the first branch since the pipeline began; see `CacheSession.runs`."""
        return next((session.runs for session in self.branches.values()), [])

    def cache_bytes(self) -> int:
        """Return the number of bytes that cached residuals of all branches hold; see `CacheSession.cache_bytes`."""
        return sum(session.cache_bytes() for session in self.branches.values())

    @property
    def peak_cache_bytes(self) -> int:
        """The largest number of bytes that cached residuals held, summed over the branches."""
        return sum(session.peak_cache_bytes for session in self.branches.values())

    # What an adapter calls

    @property
    def at_start(self) -> bool:
        """Whether no branch has an unfinished run."""
        return not any(session.is_unfinished for session in self.branches.values())

    def check_idle(self, remedy: str) -> None:
        """Raise RuntimeError if a call of the model is in progress on any branch."""
        for session in self.branches.values():
            session.check_idle(remedy)

    def count_steps(self) -> None:
        """Update the number of steps if each call of the pipeline sets it; a different number begins new runs.

        Raises:
            ValueError: the settings do not fit the new number.
        """
        if self.begins_call():
            self._twins.reset()
            self._end_unfinished()
        number = self.num_sampling_steps if self._count_steps is None else self._count_steps()
        if number == self.num_sampling_steps:
            return
        config = self.config if self.config_for is None else self.config_for(number)
        self._check_run(config, number)
        self.config, self.num_sampling_steps = config, number
        for session in self.branches.values():
            session.end_run()
            session.config, session.num_sampling_steps = self.config, number

    @contextmanager
    def model_call(
        self, name: str, latents: Tensor, timestep: Tensor, step_index: int | None = None
    ) -> Iterator[CacheSession]:
        """Wrap one call of the model on one branch; an exception drops the run of every branch.

        Args:
            name: name of the branch.
            latents: input of the model; its first axis has R rows.
            timestep: [R], decreasing from call to call.
            step_index: step index of the pipeline, if it provides one.

        Raises:
            RuntimeError: another call of the model is in progress, whose run is left as it is.
            ValueError: the settings do not fit a new number of steps, or guidance is off and they reuse it.
        """
        self.check_idle(ONE_THREAD)
        self.count_steps()
        if not name:
            name = self._twins.name_of(latents, timestep, self.scheduler_position())
        session = self.branches.get(name) or self._new_branch(name)
        begins = session.begins_run(timestep, step_index)
        goes_on = not begins and self._has_another_shape(session, latents)
        if begins:
            session.num_sampling_steps = self.num_sampling_steps
            self._begin_run(name)
        elif goes_on:
            self._begin_what_is_left(session)
        if begins or goes_on:
            session.branches_in_batch = 2 if self._guidance_in_batch(name, latents) else 1
            self._join(name, session)
        elif session.pair is not None and not (session.is_unconditional or self._pair.is_guided):
            raise ValueError(NO_GUIDANCE)
        try:
            with session.model_call(latents, timestep, step_index):
                yield session
        except BaseException:
            self.reset()
            raise

    def end_of_sampling(self) -> None:
        """Record that a pipeline has ended; the next call of each branch begins a new run."""
        unfinished = self._unfinished()
        self._twins.reset()
        for session in self.branches.values():
            session.end_run()
        if unfinished:
            warnings.warn(f"{unfinished} when the pipeline ended: {REMEDY}", AdaCacheWarning, stacklevel=2)

    def _end_unfinished(self) -> None:
        """End the runs that expect further steps; the next call of each of these branches begins a new one."""
        for session in self.branches.values():
            if session.is_unfinished:
                session.end_run()

    def _new_branch(self, name: str) -> CacheSession:
        session = self.branches[name] = CacheSession(self.config, self.num_sampling_steps, prompts_last=True)
        session.on_step = lambda step: self.on_step(name, step)
        session.output_weights = self.output_weights
        session.find_team = self.find_team
        self.on_new_branch(name, session)
        return session

    def _begin_run(self, name: str) -> None:
        """Note that a branch begins a run. If it has had one since the others began, theirs are over as well.

        Guidance may be on for only some of the steps, so that a branch is left before its run is complete.
        """
        if self._rounds.get(name) == self._round:
            self._round += 1
            self._end_unfinished()
        self._rounds[name] = self._round

    def _has_another_shape(self, session: CacheSession, latents: Tensor) -> bool:
        """Return whether a call has latents of another shape than its run, and the pipeline says that it is no new one.

        ChronoEdit drops frames within a run, after its reasoning steps. A callback may switch guidance on, which
        doubles the batch. Where it is switched off, the run goes on with the rows that are left.
        """
        return self.begins_call is not _never and session.has_another_shape(latents)

    def _begin_what_is_left(self, session: CacheSession) -> None:
        """End the run of a branch, and let the next call begin one of the steps that are left.

        Raises:
            ValueError: the settings do not fit that number of steps.
        """
        done, left = session.num_steps_done, session.num_sampling_steps - session.num_steps_done
        try:
            self._check_run(self.config, left)
        except ValueError as error:
            self.reset()
            raise ValueError(
                f"the latents change their shape after {done} of {done + left} steps, and the policy begins anew with "
                f"the {left} that are left: {error}"
            ) from None
        session.end_run()
        session.num_sampling_steps = left

    def _join(self, name: str, session: CacheSession) -> None:
        """Let a branch whose run begins reuse guidance with the other one, if guidance takes two calls.

        Raises:
            ValueError: guidance is off.
        """
        session.pair = None
        if active(self.config.guidance_reuse) is None:
            return
        if self.is_unguided():
            raise ValueError(NO_GUIDANCE)
        if name in (*CONDITIONAL, *UNCONDITIONAL):
            session.pair, session.is_unconditional = self._pair, name in UNCONDITIONAL
            if not session.is_unconditional:
                self._pair.reset()

    def _unfinished(self) -> str | None:
        """Return what is missing, or None if nothing is: guidance may be on for only some steps of a run."""
        sessions = self.branches.values()
        if self.is_interrupted() or any(session.has_run_through for session in sessions):
            return None
        for session in sessions:
            if session.is_unfinished:
                return f"only {session.num_steps_done} of {self.num_sampling_steps} steps ran"
        return None

    def _guidance_in_batch(self, name: str, latents: Tensor) -> bool:
        """Return whether a batch holds both guidance branches: at the first step these have the same latents."""
        if self.is_guided_by_calls or name not in PAIRED_BRANCHES or latents.shape[0] % 2 or self.is_unguided():
            return False
        if self.config.decision == "batch" and self.config.guidance_reuse is None:
            return False
        return torch.equal(*latents.chunk(2))
