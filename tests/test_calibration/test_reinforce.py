"""ReCache's policy: the probabilities of its draws by hand, and what it learns from known rewards."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from opensora_adacache.calibration.reinforce import GROUP, SchedulePolicy, learn


def with_importance(values):
    """Return a policy with these importances of steps 2, 3, …."""
    policy = SchedulePolicy(len(values) + 1)
    policy.importance.bias.data = torch.tensor(values)
    return policy


def test_the_most_important_steps_compute():
    policy = with_importance([0.1, 3.0, -1.0, 2.0])
    assert policy.schedule(3) == (1, 3, 5) and policy.schedule(1) == (1,) and policy.schedule(5) == (1, 2, 3, 4, 5)


def test_draws_have_the_probabilities_of_plackett_and_luce():
    # weights 1, 2 and 1 for steps 2, 3 and 4: two draws in order
    policy, generator = with_importance([0.0, math.log(2), 0.0]), torch.Generator().manual_seed(0)
    expected = {(1, 2, 3): 1 / 4 * 2 / 3 + 2 / 4 * 1 / 2, (1, 2, 4): 2 * 1 / 4 * 1 / 3}
    draws = [policy.draw(3, generator) for _ in range(1000)]
    counts = Counter(schedule for schedule, _ in draws)
    assert counts.keys() == {(1, 2, 3), (1, 2, 4), (1, 3, 4)}
    for schedule, probability in expected.items():
        assert counts[schedule] / 1000 == pytest.approx(probability, abs=0.05)
    likelihoods = {round(likelihood.exp().item(), 4) for schedule, likelihood in draws if schedule == (1, 2, 3)}
    assert likelihoods == {round(1 / 4 * 2 / 3, 4), round(2 / 4 * 1 / 2, 4)}


def test_at_first_all_steps_are_equally_important():
    assert SchedulePolicy(6)(3).tolist() == [0.0] * 5


def test_one_policy_learns_several_numbers_of_computed_steps():
    """The reward wants the last steps, whatever their number."""
    runs = []

    def reward(schedule, video):
        runs.append((schedule, video))
        return float(sum(schedule)) - 100 * video

    policy = learn(8, [3, 4, 5], 2, reward, updates=40)
    assert [policy.schedule(count) for count in (3, 4, 5)] == [(1, 7, 8), (1, 6, 7, 8), (1, 5, 6, 7, 8)]
    assert len(runs) == len(set(runs)) <= 40 * GROUP and {video for _, video in runs} == {0, 1}


def test_what_it_learns_depends_on_the_seed_alone():
    first, second = (learn(6, [3], 1, lambda schedule, video: -float(schedule[1]), updates=3) for _ in range(2))
    assert torch.equal(first(3), second(3)) and first(3).abs().max() > 0


def test_equal_rewards_change_nothing():
    policy = learn(6, [3], 1, lambda schedule, video: 1.0, updates=2)
    assert policy(3).tolist() == [0.0] * 5
