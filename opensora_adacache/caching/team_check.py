"""Which settings serve videos that several processes make together."""

from __future__ import annotations

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.team import Team


def check_team(config: CacheConfig, team: Team) -> None:
    """Raise ValueError if a policy cannot serve videos that are split between processes."""
    if config.reads_whole_video and team.num_parts > 1:
        raise ValueError(
            f"{type(config).__name__} reads all frames of a video at once, and here each of {team.num_parts} devices "
            "holds some of them: choose another policy, or set parallel.sequence=1"
        )
    if config.guidance_reuse is not None and team.num_branches > 1:
        raise ValueError(
            "guidance_reuse rebuilds one guidance branch from the other, and here each is on a device of its own: "
            "leave guidance_reuse out, or set parallel.guidance=1"
        )
