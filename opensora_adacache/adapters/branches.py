"""Caches of a model that a pipeline calls once for each guidance branch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.caching.trace import StepRecord

ONE_PROMPT_BRANCHES = ("cond", "uncond")
"""Names of branches whose batch holds videos only; any other may hold both guidance halves of each video."""


@dataclass
class _Branch:
    session: CacheSession
    last_timestep: float | None = None
    last_index: int | None = None


class BranchedSession:
    """One `CacheSession` for each guidance branch: each has its own step counter, decisions and residuals.

    A branch is what the pipeline names in ``cache_context(name)``: "cond" and "uncond" where guidance takes two calls,
    "cond_uncond" or no name ("") where it takes one. It has the same methods as a `CacheSession`; `trace` and `traces`
    are those of the first branch, the others are in `branches`.

    Args:
        config: settings of the policy.
        num_sampling_steps: n, the calls of each branch in one run: the length of the scheduler's `timesteps`.
    """

    def __init__(self, config: CacheConfig, num_sampling_steps: int) -> None:
        self.config = config
        self.num_sampling_steps = num_sampling_steps
        self.on_detach: Callable[[], None] = lambda: None
        self.on_new_branch: Callable[[str, CacheSession], None] = lambda name, session: None
        self._branches: dict[str, _Branch] = {}

    # What a user sees

    @property
    def branches(self) -> dict[str, CacheSession]:
        """The sessions by name of their branch, in the order in which they were first called."""
        return {name: branch.session for name, branch in self._branches.items()}

    def __enter__(self) -> BranchedSession:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self.detach()
        if exception_type is None and (unfinished := self._unfinished()):
            warnings.warn(f"{unfinished} before the cache was detached: {_REMEDY}", stacklevel=2)

    def detach(self) -> None:
        """Take the cache off the model and free the stored residuals; the traces stay."""
        self.on_detach()
        self.on_detach = lambda: None
        for session in self.branches.values():
            session.detach()

    def reset(self) -> None:
        """Forget the current run of every branch, so that the next call of the model is step 1."""
        for branch in self._branches.values():
            branch.session.reset()
            branch.last_timestep = branch.last_index = None

    @property
    def traces(self) -> list[list[StepRecord]]:
        """The traces of the first branch's latest run; see `CacheSession.traces`."""
        return next((session.traces for session in self.branches.values()), [])

    @property
    def trace(self) -> list[StepRecord]:
        """The trace of the first branch's latest run where there is just one; see `CacheSession.trace`."""
        return next((session.trace for session in self.branches.values()), [])

    def cache_bytes(self) -> int:
        """Return the bytes held by cached residuals of all branches now."""
        return sum(session.cache_bytes() for session in self.branches.values())

    @property
    def peak_cache_bytes(self) -> int:
        """The sum over branches of the most bytes that cached residuals held."""
        return sum(session.peak_cache_bytes for session in self.branches.values())

    # What a host calls

    @property
    def at_start(self) -> bool:
        """Whether no branch has an unfinished run."""
        return self._unfinished() is None

    @contextmanager
    def model_call(
        self, name: str, latents: Tensor, timestep: Tensor, step_index: int | None = None
    ) -> Iterator[CacheSession]:
        """Span one call of the model on one branch; an exception forgets the run of every branch.

        Args:
            name: of the branch.
            latents: input of the model; its first axis has the R rows.
            timestep: [R], falling from call to call.
            step_index: of the pipeline, where it tells.
        """
        branch = self._branches.get(name) or self._new_branch(name)
        on_host = float(timestep.flatten()[0]) if timestep.device.type == "cpu" else None
        self._forget_interrupted(branch, on_host, step_index)
        branch.last_timestep, branch.last_index = on_host, step_index
        if branch.session.num_steps_done in (0, self.num_sampling_steps):
            branch.session.guidance_in_batch = self._guidance_in_batch(name, latents)
        try:
            with branch.session.model_call(latents, timestep):
                yield branch.session
        except BaseException:
            self.reset()
            raise

    def end_of_sampling(self) -> None:
        """Take note that a pipeline ended.

        Raises:
            ValueError: its sampler took fewer steps than `num_sampling_steps`.
        """
        if unfinished := self._unfinished():
            self.reset()
            raise ValueError(f"{unfinished} when the pipeline ended: {_REMEDY}")

    def _new_branch(self, name: str) -> _Branch:
        branch = self._branches[name] = _Branch(CacheSession(self.config, self.num_sampling_steps))
        self.on_new_branch(name, branch.session)
        return branch

    def _unfinished(self) -> str | None:
        for session in self.branches.values():
            if 0 < session.num_steps_done < self.num_sampling_steps:
                return f"only {session.num_steps_done} of {self.num_sampling_steps} steps ran"
        return None

    def _forget_interrupted(self, branch: _Branch, timestep: float | None, step_index: int | None) -> None:
        """Begin a new run where the sampler has begun one, though the last is unfinished.

        Something between two calls of the model raised, a pipeline's scheduler or callback. Known by the pipeline's
        step index, else by the timestep where it is on the CPU; else the session notices at its next computed step.
        """
        done = branch.session.num_steps_done
        if not 0 < done < self.num_sampling_steps:
            return
        rose = timestep is not None and branch.last_timestep is not None and timestep > branch.last_timestep
        if step_index is not None and branch.last_index is not None:
            rose = step_index <= branch.last_index
        if rose:
            branch.session.reset()
            warnings.warn(
                f"the sampler begins a new run after {done} of {self.num_sampling_steps} steps, so the unfinished one "
                f"is forgotten. If it was not interrupted: {_REMEDY}",
                stacklevel=2,
            )

    def _guidance_in_batch(self, name: str, latents: Tensor) -> bool:
        """Tell whether a batch holds both guidance halves: at the first step these have the same latents."""
        if self.config.decision == "batch" or name in ONE_PROMPT_BRANCHES or latents.shape[0] % 2:
            return False
        return torch.equal(*latents.chunk(2))


_REMEDY = "give apply_cache the sampler's num_sampling_steps (the model calls of each guidance branch)"
