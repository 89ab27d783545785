"""The section ``parallel`` of a config: the devices that make one video together. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.config.limits import check_counts
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown


@dataclass(frozen=True)
class ParallelSettings:
    """The processes that make one video together (docs/guide/parallel.md).

    Attributes:
        sequence: number of devices between which the frames of a video are split.
        guidance: 2 puts the two guidance branches on different devices, which doubles the number of devices.
    """

    sequence: int = 1
    guidance: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "sequence")
        if self.guidance not in (1, 2):
            raise ConfigError(f"guidance must be 1 or 2 devices for its branches, got {shown(self.guidance)}")

    @property
    def num_devices(self) -> int:
        """Number of devices that make a video together."""
        return self.sequence * self.guidance

    def check_run(self, num_latent_frames: int, num_patches: int, compiles: bool, cache: CacheConfig | None) -> None:
        """Raise ConfigError if a video cannot be split between so many devices.

        Args:
            num_latent_frames: latent frames of a clip.
            num_patches: patches of a frame.
            compiles: whether the transformer's blocks are compiled.
            cache: settings of the cache.
        """
        if self.guidance > 1 and cache is not None and cache.guidance_reuse is not None:
            raise ConfigError(
                "cache.guidance_reuse rebuilds one guidance branch from the other, so parallel.guidance must be 1; "
                "leave cache.guidance_reuse out, or split by parallel.sequence only"
            )
        if self.sequence == 1:
            return
        for name, number in (("latent frames", num_latent_frames), ("patches of a frame", num_patches)):
            if number < self.sequence:
                raise ConfigError(
                    f"parallel.sequence={shown(self.sequence)} splits the {name} of a clip, of which there are "
                    f"{number}; pass a smaller number, so that torchrun's other processes make other videos"
                )
        if compiles:
            raise ConfigError("parallel.sequence needs model.compile=False: compiled blocks cannot exchange tokens")
        if cache is not None and cache.reads_whole_video:
            name = type(cache).__name__.removesuffix("Config")
            raise ConfigError(
                f"cache.type {name} reads all frames of a video at once, so parallel.sequence must be 1; choose "
                "another policy, or split by parallel.guidance only"
            )
