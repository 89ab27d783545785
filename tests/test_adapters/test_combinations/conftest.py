"""Whole pipelines at tiny size, one per family, and what each gives with a cache and without."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.diffusers.experts import transformers_of
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

TWO = ("wan", "cogvideox")
"""Guidance in two calls, guidance in one batch."""
FAMILIES = ("wan", "cogvideox", "latte", "hunyuan-video", "hunyuan-video-1.5", "ltx-video", "mochi")
EXPERTS = "wan-2.2"
"""The family with two transformers: of 7 steps the first takes 2 and the second 5, so that step 5 is reused."""


class Family:
    """One pipeline, how to call it, and what it gives."""

    steps = 5
    ones = AdaCacheConfig({1.0: 1})
    rate_2 = AdaCacheConfig({1e9: 2, 1e10: 1})
    computed = [1, 2, 4, 5]  # the first measurement is at step 2; 2 + 2 = 4; the last two always compute

    def __init__(self, name: str) -> None:
        self.name = name
        if name == EXPERTS:
            self.steps, self.computed = 7, [1, 2, 3, 4, 6, 7]

    def make(self) -> Any:
        return make_pipeline(self.name)

    def generate(self, pipeline: Any, prompt: Any = "a red circle", **changes: Any) -> torch.Tensor:
        """Return the latents of a call."""
        arguments = {**call_arguments(self.name), "num_inference_steps": self.steps, "output_type": "latent"}
        arguments |= {"generator": torch.Generator().manual_seed(0), **changes}
        return pipeline(prompt, **arguments).frames

    @cached_property
    def plain(self) -> torch.Tensor:
        """The latents without a cache."""
        return self.generate(self.make())

    @cached_property
    def cached(self) -> torch.Tensor:
        """The latents with `rate_2`."""
        pipeline = self.make()
        with apply_cache(pipeline, self.rate_2):
            return self.generate(pipeline)

    @staticmethod
    def transformers(pipeline: Any) -> dict[str, torch.nn.Module]:
        return transformers_of(pipeline)

    @staticmethod
    def blocks(pipeline: Any, name: str = "transformer") -> list[torch.nn.Module]:
        lists = [child for part, child in getattr(pipeline, name).named_children() if part.endswith("blocks")]
        return [block for blocks in lists for block in blocks]

    def check(self, pipeline: Any, session: Any) -> torch.Tensor:
        """Call a pipeline with `rate_2` twice: equal latents, the schedule by hand, no block on a reused step."""
        calls: list[int] = []
        handles = [
            self.blocks(pipeline, name)[0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
            for name in self.transformers(pipeline)
        ]
        first, second = self.generate(pipeline), self.generate(pipeline)
        for handle in handles:
            handle.remove()
        schedules = [computed_steps(branch.trace) for branch in session.branches.values()]
        assert schedules and schedules == [self.computed] * len(schedules)
        assert len(calls) == 2 * sum(map(len, schedules))
        assert torch.equal(first, second) and first.isfinite().all()
        return first

    def check_all(self, pipeline: Any, change: Callable[[Any], None], before: bool) -> torch.Tensor:
        """Change a pipeline before or after a cache is applied.

        A codebook of ones gives what the changed pipeline gives, and so does the pipeline after detaching.
        """
        if before:
            change(pipeline)
        session = apply_cache(pipeline, self.rate_2)
        if not before:
            change(pipeline)
        cached = self.check(pipeline, session)
        session.detach()
        plain = self.generate(pipeline)
        with apply_cache(pipeline, self.ones):
            assert torch.equal(self.generate(pipeline), plain)
        assert not torch.equal(plain, cached)
        return cached


MADE = {name: Family(name) for name in (*FAMILIES, EXPERTS)}


def slow_but(*fast: str) -> list:
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="session", params=slow_but("wan"))
def family(request) -> Family:
    """Each family; all but one are slow tests."""
    return MADE[request.param]


@pytest.fixture(scope="session", params=[*slow_but(*TWO), pytest.param(EXPERTS, marks=pytest.mark.slow)])
def two_families(request) -> Family:
    """Each family, also that of two transformers; all but two are slow tests."""
    return MADE[request.param]


@pytest.fixture(scope="session")
def families() -> dict[str, Family]:
    """The families by name."""
    return MADE
