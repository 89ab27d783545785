"""Compute VBench's total from the scores of its 16 dimensions.

The weights and normalisation ranges are those of VBench's leaderboard (`scripts/constant.py` and
`scripts/cal_final_score.py` of Vchitect/VBench, described in its README).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1


@dataclass(frozen=True)
class Dimension:
    """One of VBench's dimensions.

    Attributes:
        group: name of the mean that the dimension belongs to.
        low: raw score that is normalised to 0.
        high: raw score that is normalised to 1.
        weight: weight within the group.
    """

    group: Literal["quality", "semantic"]
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0

    def normalize(self, score: float) -> float:
        """Return the raw score scaled so that `low` becomes 0 and `high` becomes 1.

        >>> Dimension("semantic", low=0.25, high=0.75).normalize(0.5)
        0.5
        """
        return (score - self.low) / (self.high - self.low)


DIMENSIONS: dict[str, Dimension] = {
    "subject_consistency": Dimension("quality", low=0.1462),
    "background_consistency": Dimension("quality", low=0.2615),
    "temporal_flickering": Dimension("quality", low=0.6293),
    "motion_smoothness": Dimension("quality", low=0.706, high=0.9975),
    "dynamic_degree": Dimension("quality", weight=0.5),
    "aesthetic_quality": Dimension("quality"),
    "imaging_quality": Dimension("quality"),
    "object_class": Dimension("semantic"),
    "multiple_objects": Dimension("semantic"),
    "human_action": Dimension("semantic"),
    "color": Dimension("semantic"),
    "spatial_relationship": Dimension("semantic"),
    "scene": Dimension("semantic", high=0.8222),
    "appearance_style": Dimension("semantic", low=0.0009, high=0.2855),
    "temporal_style": Dimension("semantic", high=0.364),
    "overall_consistency": Dimension("semantic", high=0.364),
}


@dataclass(frozen=True)
class VBenchScore:
    """VBench's three means in 0..1. Tables show them in percent."""

    quality: float
    semantic: float

    @property
    def total(self) -> float:
        """(4 · quality + semantic) / 5."""
        weighted = QUALITY_WEIGHT * self.quality + SEMANTIC_WEIGHT * self.semantic
        return weighted / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)


def total_score(scores: Mapping[str, float]) -> VBenchScore:
    """Return the weighted means of the normalised scores.

    Args:
        scores: raw scores of all 16 dimensions. VBench counts a missing one as 0. Here it is an error, because a
            total without it is meaningless.

    Raises:
        ValueError: a dimension is missing or unknown.
    """
    missing, unknown = [name for name in DIMENSIONS if name not in scores], sorted(set(scores) - set(DIMENSIONS))
    if missing or unknown:
        problem = f"'{missing[0]}' is missing" if missing else f"'{unknown[0]}' is unknown"
        raise ValueError(f"VBench's total needs its 16 dimensions, {problem}; evaluate exactly these")
    return VBenchScore(_mean(scores, "quality"), _mean(scores, "semantic"))


def _mean(scores: Mapping[str, float], group: str) -> float:
    members = {name: dimension for name, dimension in DIMENSIONS.items() if dimension.group == group}
    weighted = sum(dimension.weight * dimension.normalize(scores[name]) for name, dimension in members.items())
    return weighted / sum(dimension.weight for dimension in members.values())
