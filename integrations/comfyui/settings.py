"""What the inputs of the node mean: settings of a policy for a number of steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from opensora_adacache import AdaCacheConfig, CacheConfig, ForecastCacheConfig
from opensora_adacache.caching.codebook import OPEN_SORA_CODEBOOKS
from opensora_adacache.presets.identity import ModelIdentity, short_name
from opensora_adacache.presets.lookup import find_settings

POLICIES = {"ForecastCache": "forecastcache", "AdaCache": "adacache"}
"""Choices of the node → names for a calibrated speedup."""
PUBLISHED = OPEN_SORA_CODEBOOKS["fast"]


@dataclass(frozen=True)
class NodeSettings:
    """The inputs of the node.

    Attributes:
        policy: "ForecastCache" or "AdaCache".
        speedup: cached steps / computed ones among them, at least 1.
        tolerance: error that a skipped step may have, above 0; 0 to use `speedup`.
        start: fraction of the run's steps after which steps may be skipped.
        end: fraction of the run's steps after which all steps compute.
        calibration: name or folder of the diffusers pipeline whose calibration to use; "" for none.
        verbose: whether to log the schedule of each run.

    Raises:
        ValueError: a value is out of range, or there are no settings for these inputs.
    """

    policy: str
    speedup: float
    tolerance: float
    start: float
    end: float
    calibration: str = ""
    verbose: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "calibration", self.calibration.strip())
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        if self.speedup < 1 or self.tolerance < 0:
            raise ValueError(
                f"speedup must be at least 1 and tolerance at least 0, got {self.speedup} and {self.tolerance}"
            )
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"start and end must be fractions with 0 <= start < end <= 1, got {self.start}, {self.end}"
            )
        if self.policy == "AdaCache" and self.caches and bool(self.tolerance) == bool(self.calibration):
            raise ValueError(
                "AdaCache needs either a tolerance or a calibration, which gives it settings for the speedup, got "
                f"{'both' if self.calibration else 'neither'}; ForecastCache needs none"
            )

    @property
    def caches(self) -> bool:
        """Whether any step can be skipped."""
        return self.speedup > 1 or self.tolerance > 0

    def steps(self, num_steps: int) -> range:
        """Return the indices of the steps that are cached, from 0, in a run of n steps."""
        return range(round(self.start * num_steps), round(self.end * num_steps))

    def config(self, num_steps: int) -> CacheConfig:
        """Return the settings for this many cached steps.

        Raises:
            ValueError: there is no such calibration.
        """
        if self.calibration:
            return self._calibrated(num_steps)
        if self.policy == "ForecastCache":
            if self.tolerance:
                return ForecastCacheConfig(tolerance=self.tolerance)
            return ForecastCacheConfig(speedup=self.speedup)
        factor = self.tolerance / min(PUBLISHED)
        return AdaCacheConfig({threshold * factor: rate for threshold, rate in PUBLISHED.items()})

    def _calibrated(self, num_steps: int) -> CacheConfig:
        name = self.calibration
        command = f"python scripts/calibrate_pipeline.py {name} --policy {{policy}} --num-sampling-steps {{steps}}"
        identity = ModelIdentity(short_name(name), None, f"'{name}'", command)
        config = find_settings(identity, self.speedup, POLICIES[self.policy]).at(num_steps)
        assert isinstance(config, AdaCacheConfig | ForecastCacheConfig)  # the policies that a speedup is given for
        config = replace(config, corrector=0.0)  # which depends on the sampler
        if self.tolerance and isinstance(config, ForecastCacheConfig):
            config = replace(config, speedup=None, tolerance=self.tolerance)
        return config

    @property
    def origin(self) -> str:
        """Where the settings come from, for the log."""
        if self.calibration:
            return f"calibrated for {self.calibration}"
        return "not calibrated for this model, so compare a video with one made without the node"
