"""What a visitor asks for: a pair of videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PairRequest:
    """A baseline video and a cached one of the same prompt.

    Attributes:
        prompt: the prompt.
        policy: name of the policy, as in the menu.
        speedup: speedup that the visitor chose.
        seed: seed of both videos.
        reference: reference image, written by the app, or None.
    """

    prompt: str
    policy: str
    speedup: float
    seed: int
    reference: Path | None = None
