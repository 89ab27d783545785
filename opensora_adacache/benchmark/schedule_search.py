"""Search for the schedules that give the best videos: what a policy could achieve if it knew the outcome.

A schedule is the increasing sequence of computed steps, counted from 1. The searches are not exhaustive, so their
results are lower bounds of the best quality.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import fmean

Schedule = tuple[int, ...]
Score = Callable[[Sequence[Schedule]], list[float]]
"""Returns the quality in dB of each video with its schedule."""

# A move shifts a computed step by at most this many steps; one move in five goes anywhere.
_NEAR = 3
_FAR_SHARE = 0.2


def even_schedule(num_steps: int, num_computed: int) -> Schedule:
    """Return computed steps spaced as evenly as possible, including the first and the last step.

    >>> even_schedule(10, 4)
    (1, 4, 7, 10)
    """
    gap = (num_steps - 1) / max(num_computed - 1, 1)
    return tuple(1 + round(i * gap) for i in range(num_computed))


def moved(schedule: Schedule, num_steps: int, rng: random.Random) -> Schedule:
    """Return the schedule with one of its computed steps moved; the first never moves."""
    kept = list(schedule)
    step = kept.pop(rng.randrange(1, len(kept)))
    free = [other for other in range(2, num_steps + 1) if other not in schedule]
    near = [other for other in free if abs(other - step) <= _NEAR]
    place = rng.choice(near if near and rng.random() >= _FAR_SHARE else free)
    return tuple(sorted((*kept, place)))


def best_static(
    starts: Sequence[Schedule], num_videos: int, num_steps: int, score: Score, rounds: int, seed: int = 0
) -> tuple[Schedule, list[float]]:
    """Return the one schedule for all videos with the highest mean quality found, and the quality of each video.

    The search starts at the best of `starts`, tries one move per round and keeps it if it is better.
    """
    rng, tried = random.Random(seed), dict.fromkeys(starts)
    scores = {schedule: score([schedule] * num_videos) for schedule in tried}
    best = max(scores, key=lambda schedule: fmean(scores[schedule]))
    for _ in range(rounds):
        candidate = _new(best, tried, num_steps, rng)
        if candidate is None:
            break
        scores[candidate] = score([candidate] * num_videos)
        best = max(best, candidate, key=lambda schedule: fmean(scores[schedule]))
    return best, scores[best]


def best_per_video(
    starts: Sequence[Schedule], qualities: Sequence[float], num_steps: int, score: Score, rounds: int, seed: int = 0
) -> tuple[list[Schedule], list[float]]:
    """Return the best schedule found for each video and its quality. Each round tries one move per video.

    Args:
        starts: schedule of each video to start from.
        qualities: quality of each video with that schedule, in dB.
        num_steps: number of steps n.
        score: function that scores schedules, one per video.
        rounds: number of moves to try per video.
        seed: seed of the moves.
    """
    rng, best, found = random.Random(seed), list(starts), list(qualities)
    tried = [dict.fromkeys([schedule]) for schedule in best]
    for _ in range(rounds):
        candidates = [
            _new(schedule, known, num_steps, rng) or schedule for schedule, known in zip(best, tried, strict=True)
        ]
        for video, (candidate, quality) in enumerate(zip(candidates, score(candidates), strict=True)):
            if quality > found[video]:
                best[video], found[video] = candidate, quality
    return best, found


def _new(schedule: Schedule, tried: dict[Schedule, None], num_steps: int, rng: random.Random) -> Schedule | None:
    """Return a move that was not tried yet and mark it as tried, or None if none was found."""
    for _ in range(100 if 1 < len(schedule) < num_steps else 0):
        candidate = moved(schedule, num_steps, rng)
        if candidate not in tried:
            tried[candidate] = None
            return candidate
    return None
