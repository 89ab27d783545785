"""What a user asked `apply_cache` for: settings, or a speedup whose settings depend on the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.presets.identity import ModelIdentity
from opensora_adacache.presets.lookup import SpeedupSettings, find_settings


@dataclass(frozen=True)
class Requested:
    """Settings of a policy, or a speedup.

    Attributes:
        config: settings; None with a speedup.
        speedup: n / computed steps; None with settings.
        policy: name of the policy for the speedup; see `presets.lookup.find_settings`.

    Raises:
        ValueError: both are given, or neither.
    """

    config: CacheConfig | None
    speedup: float | None
    policy: str | None

    def __post_init__(self) -> None:
        if self.config is not None and not isinstance(self.config, CacheConfig):
            kind = type(self.config).__name__
            given = f"the class {self.config.__name__}" if isinstance(self.config, type) else kind
            raise ValueError(f"apply_cache expects the settings of a policy, an instance of a CacheConfig, got {given}")
        if (self.config is None) == (self.speedup is None):
            both = "neither" if self.config is None else "both"
            raise ValueError(f"apply_cache needs either settings or speedup=X, got {both}")
        if self.policy is not None and self.speedup is None:
            raise ValueError("policy goes with speedup: settings say already which policy they are of")

    def at(self, num_steps: int, identity: Callable[[], ModelIdentity]) -> CacheConfig:
        """Return the settings for a run of this many steps.

        Raises:
            ValueError: the model has none for the speedup.
        """
        return self.config if self.config is not None else self.found(identity()).at(num_steps)

    def found(self, identity: ModelIdentity) -> SpeedupSettings:
        """Return the settings of a model for the speedup, by number of steps.

        Raises:
            ValueError: the model has none.
        """
        assert self.speedup is not None
        return find_settings(identity, self.speedup, self.policy)
