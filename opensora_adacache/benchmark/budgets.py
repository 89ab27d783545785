"""Hold settings that decide by a threshold to a budget of computed steps, so that policies compare at equal costs.

A threshold that was calibrated on some prompts computes more or fewer steps on others. If a setting with a budget is
off by more than `TOLERANCE`, settings with scaled thresholds are added until one computes more and one computes fewer
steps than the budget. The policy is then a draw between these two: for each video, the upper setting with probability
w and the lower one else, where w is the same for all videos and makes the mean number of computed steps equal to the
budget. Every figure of a video is the expectation over the draw, (1 − w) · lower + w · upper. Only numbers of computed
steps choose the thresholds and w; no quality does. A step that runs some of the blocks counts by its FLOPs.

Videos that are exact (`ResultRow.is_exact`) with either setting are left out, because their PSNR is infinite. The
budget holds for the videos that remain.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from opensora_adacache.benchmark.config import Setting
from opensora_adacache.benchmark.description import SettingRecord
from opensora_adacache.benchmark.results import ResultRow
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.search import scale_codebook

TOLERANCE = 0.25
"""Distance from the budget, in steps, within which a setting is taken as it is."""
MOST_FACTORS = 5
"""Number of thresholds that are tried for a setting beside its own."""
MARGIN, OVERSHOOT = 0.4, 0.2
"""How far beyond the budget a threshold aims: in steps, and as a fraction of the distance from it."""
STUCK = 0.05
"""Steps by which two thresholds must differ for a third one to be tried."""
USUAL_SLOPE = -0.5
"""Change of the logarithm of the computed steps per change of the logarithm of the threshold, until two are known."""
_KNOBS = ("codebook", "threshold", "tolerance")

Videos = Mapping[tuple[int, int], ResultRow]
"""Prompt number and seed → row, for one setting."""


@dataclass(frozen=True)
class Point:
    """A setting of a policy, and how many steps it computes.

    Attributes:
        name: name of the setting.
        factor: what its thresholds were multiplied by.
        steps: mean number of computed steps of the videos that are not exact, or of all if all are.
        is_exact: whether all videos are exact, so that no draw can include it.
    """

    name: str
    factor: float
    steps: float
    is_exact: bool = False

    @classmethod
    def of(cls, name: str, factor: float, videos: Videos) -> Point:
        """Return the point of a setting with its rows."""
        counted = [row.steps for row in videos.values() if not row.is_exact]
        steps = fmean(counted or [row.steps for row in videos.values()])
        return cls(name, factor, steps, is_exact=not counted)


def scaled_setting(setting: Setting, factor: float) -> Setting:
    """Return a setting with all thresholds multiplied, which holds the given one to its budget."""
    config = replace(setting.config, cache=scaled(setting.config.cache, factor))  # type: ignore[arg-type]
    name, title = f"{setting.name}.x{factor:.4g}", f"{setting.title}, threshold × {factor:.4g}"
    return Setting(name, config, title, held_for=setting.name, factor=factor)


def scaled(cache: CacheConfig, factor: float) -> Any:
    """Return settings whose thresholds are multiplied by a factor, to four significant digits.

    >>> from opensora_adacache.caching.policies.fbcache import FBCacheConfig
    >>> scaled(FBCacheConfig(threshold=0.1), 1.25).threshold
    0.125
    """
    knob = _knob(cache)
    value = getattr(cache, knob)
    changed = scale_codebook(value, factor) if knob == "codebook" else float(f"{value * factor:.4g}")
    return replace(cache, **{knob: changed})  # type: ignore[arg-type]


def has_threshold(cache: CacheConfig | None) -> bool:
    """Return whether the settings decide by a threshold, which can be scaled."""
    return any(getattr(cache, name, None) is not None for name in _KNOBS)


def further_settings(
    settings: Sequence[Setting], rows: Sequence[ResultRow], keys: Collection[tuple[int, int]]
) -> list[Setting]:
    """Return the settings to add, at most one for each that is off its budget.

    Args:
        settings: settings of the benchmark.
        rows: its rows.
        keys: prompt number and seed of all its videos. A setting counts once it has all of them.
    """
    made = by_setting(row for row in rows if row.video_key in set(keys))
    complete = {name for name, videos in made.items() if len(videos) == len(keys)}
    added = []
    for setting in settings:
        if setting.budget is None or not has_threshold(setting.config.cache):
            continue
        group = [setting, *(one for one in settings if one.held_for == setting.name)]
        if not all(one.name in complete for one in group):
            continue
        found = [Point.of(one.name, one.factor, made[one.name]) for one in group]
        factor = next_factor(found, setting.budget)
        if factor is not None and len(group) <= MOST_FACTORS:
            added.append(scaled_setting(setting, factor))
    return added


def next_factor(found: Sequence[Point], budget: float) -> float | None:
    """Return the factor to try next; None if a setting is close enough, the budget lies between two, or there is no new
    one to try.

    >>> next_factor([Point("a", 1.0, 12.0)], 10)  # aims at 9.2 steps
    1.701
    >>> next_factor([Point("a", 1.0, 12.0), Point("a.x1.701", 1.701, 9.5)], 10)
    """
    if any(abs(point.steps - budget) <= TOLERANCE for point in found):
        return None
    usable = [point for point in found if not point.is_exact]
    above, below = ([p for p in usable if (p.steps > budget) == side] for side in (True, False))
    if above and below:
        return None
    nearest = min(usable or found, key=lambda point: abs(point.steps - budget))
    if any(p.factor != nearest.factor and abs(p.steps - nearest.steps) < STUCK for p in usable):
        return None  # the policy computes no fewer or no more steps
    gap = nearest.steps - budget
    aim = budget - math.copysign(MARGIN + OVERSHOOT * abs(gap), gap)
    rise = math.log(max(aim, 1.0) / nearest.steps)
    factor = float(f"{nearest.factor * math.exp(rise / _slope(found, nearest)):.4g}")
    # an exact setting does not count as a side of the budget, so that its factor can come up again
    return None if any(point.factor == factor for point in found) else factor


def _slope(found: Sequence[Point], nearest: Point) -> float:
    """Return the change of log steps per change of log threshold, kept within a factor of 4 of the usual one."""
    others = [point for point in found if point is not nearest]
    if not others:
        return USUAL_SLOPE
    other = min(others, key=lambda point: abs(math.log(point.factor / nearest.factor)))
    slope = math.log(nearest.steps / other.steps) / math.log(nearest.factor / other.factor)
    return min(max(slope, 4 * USUAL_SLOPE), USUAL_SLOPE / 4)


def by_setting(rows: Any) -> dict[str, dict[tuple[int, int], ResultRow]]:
    """Return setting → prompt number and seed → row."""
    made: dict[str, dict[tuple[int, int], ResultRow]] = defaultdict(dict)
    for row in rows:
        made[row.setting][row.video_key] = row
    return made


@dataclass(frozen=True)
class Held:
    """A setting at its budget.

    Attributes:
        setting: the setting.
        lower, upper: rows of the settings that compute fewer and more steps; the same where one setting is enough.
        weight: w, the probability of the upper one.
    """

    setting: SettingRecord
    lower: Videos
    upper: Videos
    weight: float

    @property
    def keys(self) -> list[tuple[int, int]]:
        """The videos of both."""
        return sorted(self.lower.keys() & self.upper.keys())

    @property
    def exact(self) -> set[tuple[int, int]]:
        """The videos that are exact with either setting."""
        return {key for key in self.keys if any(row.is_exact for _, row in self.parts(key))}

    def parts(self, key: tuple[int, int]) -> list[tuple[float, ResultRow]]:
        """Return the rows that a video is drawn from, with their probabilities."""
        drawn = [(1 - self.weight, self.lower[key]), (self.weight, self.upper[key])]
        return [(probability, row) for probability, row in drawn if probability > 0]

    def expected(self, key: tuple[int, int], name: str) -> float:
        """Return the expectation of a figure of a video.

        Raises:
            ValueError: it was not measured.
        """
        total = 0.0
        for probability, row in self.parts(key):
            value = getattr(row, name)
            if value is None:
                raise ValueError(f"'{row.setting}' has a video without {name}; run the benchmark with this metric")
            total += probability * value
        return total


def hold(setting: SettingRecord, others: Sequence[SettingRecord], made: Mapping[str, Videos]) -> Held:
    """Return a setting at its budget, or as it is if it has none or cannot be brought there.

    Args:
        setting: the setting.
        others: all settings; those with `held_for` of this setting are used.
        made: setting → rows.
    """
    own = made[setting.name]
    alone = Held(setting, own, own, 1.0)
    if setting.budget is None:
        return alone
    group = [setting, *(one for one in others if one.held_for == setting.name and len(made[one.name]) == len(own))]
    points = [Point.of(one.name, one.factor, made[one.name]) for one in group]
    points = [point for point in points if not point.is_exact] or points
    nearest = min(points, key=lambda point: abs(point.steps - setting.budget))  # type: ignore[operator]
    above = [point for point in points if point.steps > setting.budget]
    below = [point for point in points if point.steps <= setting.budget]
    if abs(nearest.steps - setting.budget) <= TOLERANCE or not above or not below:
        return Held(setting, made[nearest.name], made[nearest.name], 1.0)
    lower = made[max(below, key=lambda point: point.steps).name]
    upper = made[min(above, key=lambda point: point.steps).name]
    counted = [key for key in own if not (lower[key].is_exact or upper[key].is_exact)]
    fewer, more = (fmean(videos[key].steps for key in counted or own) for videos in (lower, upper))
    weight = (setting.budget - fewer) / (more - fewer) if more > fewer else 1.0
    return Held(setting, lower, upper, min(max(weight, 0.0), 1.0))


def _knob(cache: CacheConfig) -> str:
    return next(name for name in _KNOBS if getattr(cache, name, None) is not None)
