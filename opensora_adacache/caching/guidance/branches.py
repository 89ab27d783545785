"""Runs the model for the rows that a step needs, and rebuilds the output of the others.

R batch rows (videos × guidance branches), B videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from opensora_adacache.caching.guidance.unconditional import Picture, UnconditionalOutput
from opensora_adacache.caching.run_state import OpenStep, Run

Rows = slice | Tensor | None
"""Rows of a call; None for all of them."""


@dataclass(frozen=True)
class ModelRows:
    """How the open step runs some rows of its call.

    Attributes:
        cached: runs the rows of the step with the cache, [R, …].
        aside: runs rows as if no cache was attached.
        correct: what the session makes of the model's output (`CacheSession.correct`).
        picture: where the pictures of the output are.
    """

    cached: Callable[[Rows], Tensor]
    aside: Callable[[Rows], Tensor]
    correct: Callable[[Tensor], Tensor]
    picture: Picture


@dataclass(frozen=True)
class ConditionalOutput:
    """What a call of the conditional branch returned, for the call of the unconditional one that follows.

    Attributes:
        raw: the model's output.
        out: the same, corrected if the settings have a corrector.
        computed: the videos that computed.
    """

    raw: Tensor
    out: Tensor
    computed: list[int]


class BranchPair:
    """The sessions of the two guidance branches of a model that is called once for each.

    Attributes:
        latest: output of the conditional call of the open step, until the unconditional one takes it.
        is_guided: whether the unconditional branch was called in this run.
    """

    def __init__(self) -> None:
        self.latest: ConditionalOutput | None = None
        self.is_guided = False

    def reset(self) -> None:
        """Forget the run."""
        self.latest, self.is_guided = None, False

    def take(self) -> ConditionalOutput:
        """Return the conditional output of the open step.

        Raises:
            ValueError: the conditional branch was not called before.
        """
        found, self.latest, self.is_guided = self.latest, None, True
        if found is None:
            raise ValueError(
                "guidance_reuse rebuilds the unconditional output from the conditional one, and this pipeline calls "
                "the model for the unconditional branch first: leave guidance_reuse out"
            )
        return found


class RunsAside(Protocol):
    """A session, as far as running rows aside is concerned."""

    is_aside: bool


def run_aside(session: RunsAside, forward: Callable[[Rows], Tensor], rows: Rows) -> Tensor:
    """Run the model on rows as if no cache was attached."""
    session.is_aside = True
    try:
        return forward(rows)
    finally:
        session.is_aside = False


def run_in_batch(run: Run, step: OpenStep, model: ModelRows, prompts_last: bool) -> Tensor:
    """Return the output of a call, [R, …], whose batch holds both branches of each video if `run` leaves rows out."""
    raw = model.cached(step.call_rows)
    out, unconditional = model.correct(raw), run.unconditional
    if unconditional is None:
        return out
    videos, rows = unconditional.num_videos, run.policy.rows_of(step.computed)
    if step.call_rows is None:
        if len(raw) == 2 * videos:  # or else guidance was switched off
            first, second = raw.chunk(2)
            both = (second, first) if prompts_last else (first, second)
            _measure(run, unconditional, step.number, *both, sorted({row % videos for row in rows}))
        return out

    def uncond(index: Tensor | None) -> Tensor:
        start = 0 if prompts_last else videos
        return model.aside(slice(start, start + videos) if index is None else index + start)

    step.refreshed = unconditional.due(step.number, rows)
    other = _unconditional(run, unconditional, step, ConditionalOutput(raw, out, rows), uncond, model.picture)
    return torch.cat([other, out] if prompts_last else [out, other])


def run_branch(run: Run, step: OpenStep, model: ModelRows, pair: BranchPair, is_unconditional: bool) -> Tensor:
    """Return the output of a call that holds one branch.

    That of the conditional branch is kept for the other one, whose policy is not asked any more from the start on.
    """
    unconditional = run.unconditional
    if unconditional is None:
        raw = model.cached(None)
        out = model.correct(raw)
        if not is_unconditional:
            pair.latest = ConditionalOutput(raw, out, run.policy.rows_of(step.computed))
        return out
    cond = pair.take()
    if step.number < unconditional.first_step:
        raw = model.cached(None)
        rows = set(run.policy.rows_of(step.computed)) & set(cond.computed)
        _measure(run, unconditional, step.number, cond.raw, raw, sorted(rows))
        return model.correct(raw)
    run.store.clear()  # nothing reads it again
    step.follows, step.refreshed = True, unconditional.due(step.number, cond.computed)
    step.computed = [not set(group).isdisjoint(step.refreshed) for group in run.policy.groups]
    return _unconditional(run, unconditional, step, cond, model.aside, model.picture)


def _measure(
    run: Run, unconditional: UnconditionalOutput, step: int, cond: Tensor, uncond: Tensor, videos: Sequence[int]
) -> None:
    """Measure the difference of the branches for the videos that computed both."""
    if len(videos) == unconditional.num_videos:
        unconditional.measure(step, cond, uncond, videos, None)
    elif videos:
        index = run.index(videos)
        unconditional.measure(step, cond[index], uncond[index], videos, index)


def _unconditional(
    run: Run,
    unconditional: UnconditionalOutput,
    step: OpenStep,
    cond: ConditionalOutput,
    compute: Callable[[Tensor | None], Tensor],
    picture: Picture,
) -> Tensor:
    """Return the unconditional output [B, …], computed for the videos that are due and rebuilt for the others.

    A correction of the conditional output holds for both: between computed steps both move alike.
    """
    due = step.refreshed or []
    are_all = len(due) == unconditional.num_videos
    rebuilt = None if are_all else unconditional.rebuild(step.number, cond.out, picture)
    if rebuilt is not None and not due:
        return rebuilt
    index = None if rebuilt is None else run.index(due)
    raw, cond_raw, cond_out = compute(index), cond.raw, cond.out
    if index is not None:
        cond_raw, cond_out = cond_raw[index], cond_out[index]
    unconditional.measure(step.number, cond_raw, raw, due, index)
    out = raw if cond.out is cond.raw else raw + (cond_out - cond_raw)
    return out if rebuilt is None or index is None else rebuilt.index_copy(0, index, out)
