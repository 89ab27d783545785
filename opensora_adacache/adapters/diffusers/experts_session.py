"""The session of a pipeline whose steps are shared by two transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.experts import StepsOfExperts
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.observed_step import ObservedStep
from opensora_adacache.caching.session import DETACH_OUTSIDE, CacheSession
from opensora_adacache.caching.trace import StepRecord


@dataclass(frozen=True)
class ExpertsBranch:
    """A guidance branch over both transformers, whose steps are counted through one call of the pipeline.

    Attributes:
        parts: for each transformer that has the branch, the number of steps before its own, and its session.
    """

    parts: tuple[tuple[int, CacheSession], ...]

    @property
    def traces(self) -> list[list[StepRecord]]:
        """The traces of the latest call; see `CacheSession.traces`."""
        joined: list[list[StepRecord]] = []
        for before, session in self.parts:
            for row, trace in enumerate(session.traces):
                if row == len(joined):
                    joined.append([])
                joined[row] += [replace(record, step=before + record.step) for record in trace]
        return joined

    @property
    def trace(self) -> list[StepRecord]:
        """The trace of the latest call, if there is only one; see `CacheSession.trace`."""
        traces = self.traces
        if len(traces) > 1:
            raise ValueError(f"this run has {len(traces)} traces, one for each video: use session.traces")
        return traces[0] if traces else []

    @property
    def peak_cache_bytes(self) -> int:
        """The largest number of bytes that cached residuals held, summed over the transformers."""
        return sum(session.peak_cache_bytes for _, session in self.parts)


class ExpertsSession:
    """One `BranchedSession` per transformer; each counts its own steps, decides and stores residuals separately.

    The methods are those of `BranchedSession`. Each call of the pipeline is one run for the user: traces and `on_step`
    count its steps, over both transformers. Each transformer's part of it is a run of the policy, which begins with the
    policy's first steps.

    Args:
        sessions: the sessions, by the name of the pipeline's component.
        steps: counts their steps.

    Attributes:
        on_step: called after each call of a model with its branch; see `CacheSession.on_step`.
        sessions: the sessions, by the name of the pipeline's component.
    """

    def __init__(self, sessions: Mapping[str, BranchedSession], steps: StepsOfExperts) -> None:
        self.sessions: dict[str, BranchedSession] = dict(sessions)
        self.on_step: Callable[[str, ObservedStep], None] = lambda name, step: None
        self._steps = steps
        self._num_all = 0
        steps.on_new_call = self._begin_call
        for name, session in self.sessions.items():
            session.on_step = partial(self._show, name)

    def __enter__(self) -> ExpertsSession:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *error: object) -> None:
        self._check_idle()
        with ExitStack() as stack:  # each is detached, also where a warning of another one is an error
            stack.callback(self._steps.release)
            for session in reversed(self.sessions.values()):
                stack.callback(session.__exit__, exception_type, *error)

    def detach(self) -> None:
        """Remove the cache from both models and free the stored residuals; the traces are kept."""
        self._check_idle()
        for session in self.sessions.values():
            session.detach()
        self._steps.release()

    def reset(self) -> None:
        """Drop the current runs, so that the next call of each model is its step 1."""
        for session in self.sessions.values():
            session.reset()

    @property
    def config(self) -> CacheConfig:
        """The settings of the policy."""
        return next(iter(self.sessions.values())).config

    @property
    def branches(self) -> dict[str, ExpertsBranch]:
        """The guidance branches by name, in the order of their first calls."""
        parts: dict[str, list[tuple[int, CacheSession]]] = {}
        for name, session in self.sessions.items():
            for branch, part in session.branches.items():
                parts.setdefault(branch, []).append((self._steps.before(name), part))
        return {branch: ExpertsBranch(tuple(of_branch)) for branch, of_branch in parts.items()}

    @property
    def traces(self) -> list[list[StepRecord]]:
        """The traces of the first branch in the latest call; see `CacheSession.traces`."""
        return next((branch.traces for branch in self.branches.values()), [])

    @property
    def trace(self) -> list[StepRecord]:
        """The trace of the first branch in the latest call, if there is only one; see `CacheSession.trace`."""
        return next((branch.trace for branch in self.branches.values()), [])

    @property
    def runs(self) -> list[list[list[StepRecord]]]:
        """The `traces` of the latest call, as a list of one; see `CacheSession.runs`."""
        traces = self.traces
        return [traces] if traces else []

    def cache_bytes(self) -> int:
        """Return the number of bytes that cached residuals hold now; see `CacheSession.cache_bytes`."""
        return sum(session.cache_bytes() for session in self.sessions.values())

    @property
    def peak_cache_bytes(self) -> int:
        """The largest number of bytes that cached residuals of one transformer held, summed over its branches.

        Those of the first transformer are freed before the second one takes its first step.
        """
        return max(session.peak_cache_bytes for session in self.sessions.values())

    def _check_idle(self) -> None:
        for session in self.sessions.values():
            session.check_idle(DETACH_OUTSIDE)

    def _begin_call(self) -> None:
        """Forget the runs of earlier calls: a transformer may take no step in this one.

        Raises:
            ValueError: the settings do not fit the steps of one of the transformers, be it the second one.
        """
        self.reset()
        if self._steps.num_all != self._num_all:
            self._num_all = self._steps.num_all
            for session in self.sessions.values():
                session.num_sampling_steps = 0  # settings may depend on all steps, also where its own stay as many
        for name, session in self.sessions.items():
            number = self._steps.of(name)
            if number == 0:
                continue
            try:
                session.count_steps()
            except ValueError as error:
                raise ValueError(f"{name} takes {number} of the {self._num_all} steps: {error}") from None

    def _show(self, transformer: str, branch: str, step: ObservedStep) -> None:
        self.on_step(branch, replace(step, index=self._steps.before(transformer) + step.index))
