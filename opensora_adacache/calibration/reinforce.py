"""ReCache's search: a policy for all numbers of computed steps, learned with REINFORCE from whole cached runs.

Source: arXiv 2606.06060; the size of the network, the number of updates and the learning rate are ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from opensora_adacache.calibration.annealing import Schedule

UPDATES = 200
GROUP = 8
"""Schedules that are compared with each other, on one video with one number of computed steps."""
_HIDDEN = 64
_LEARNING_RATE = 0.03


class SchedulePolicy(nn.Module):
    """How important each step is, given the number of computed steps: a multilayer perceptron without hidden state.

    A schedule is step 1 and the k − 1 most important others. When it learns, the policy draws the others one after the
    other, each with a probability in proportion to the exponential of its importance (Plackett-Luce). At first all
    schedules are equally likely.

    Args:
        num_steps: number of steps n.
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.hidden, self.importance = nn.Linear(1, _HIDDEN), nn.Linear(_HIDDEN, num_steps - 1)
        nn.init.zeros_(self.importance.weight)
        nn.init.zeros_(self.importance.bias)

    def forward(self, num_computed: int) -> Tensor:
        """Return the importance of steps 2..n, [n − 1]."""
        budget = torch.tensor([2 * num_computed / self.num_steps - 1])
        return cast(Tensor, self.importance(self.hidden(budget).tanh()))

    @torch.no_grad()
    def schedule(self, num_computed: int) -> Schedule:
        """Return the most likely schedule."""
        return _schedule(self(num_computed).topk(num_computed - 1).indices)

    def draw(self, num_computed: int, generator: torch.Generator) -> tuple[Schedule, Tensor]:
        """Return a random schedule, and the logarithm of the probability of its draws, a tensor []."""
        importance = self(num_computed)
        noise = torch.empty_like(importance).exponential_(generator=generator).log()
        order = (importance.detach() - noise).argsort(descending=True)
        drawn = importance[order]
        rest = drawn.flip(0).logcumsumexp(0).flip(0)  # of the steps that are left at each draw
        return _schedule(order[: num_computed - 1]), (drawn - rest)[: num_computed - 1].sum()


def learn(
    num_steps: int,
    counts: Sequence[int],
    num_videos: int,
    reward: Callable[[Schedule, int], float],
    updates: int = UPDATES,
    seed: int = 0,
) -> SchedulePolicy:
    """Return a policy that has learned to draw schedules of high reward.

    Each update draws eight schedules with one number of computed steps and runs them on one video, both chosen at
    random. A schedule's advantage is its reward minus the mean of the others, in units of their deviation.

    Args:
        num_steps: number of steps n.
        counts: numbers of computed steps to learn.
        num_videos: number of videos.
        reward: reward of a schedule on a video, counted from 0. Each pair is run once at most.
        updates: number of updates.
        seed: seed of weights, videos and draws.
    """
    rng, known = random.Random(seed), dict[tuple[Schedule, int], float]()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = SchedulePolicy(num_steps)
    optimizer = torch.optim.Adam(policy.parameters(), lr=_LEARNING_RATE)
    for _ in range(updates):
        count, video = rng.choice(counts), rng.randrange(num_videos)
        with torch.enable_grad():
            draws = [policy.draw(count, generator) for _ in range(GROUP)]
            for schedule, _ in draws:
                if (schedule, video) not in known:
                    known[schedule, video] = reward(schedule, video)
            rewards = torch.tensor([known[schedule, video] for schedule, _ in draws])
            advantages = (rewards - rewards.mean()) * GROUP / (GROUP - 1) / rewards.std().clamp(min=1e-6)
            loss = -(advantages * torch.stack([likelihood for _, likelihood in draws])).mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    return policy


def _schedule(others: Tensor) -> Schedule:
    """Return step 1 and the steps with these indices, which count from step 2."""
    return (1, *sorted(index + 2 for index in others.tolist()))
