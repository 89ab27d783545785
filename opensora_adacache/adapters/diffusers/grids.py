"""Token grids of diffusers transformers, from the model's config and the arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opensora_adacache.adapters.transformer_adapter import Grid


def latent_grid(config: Any, arguments: Mapping[str, Any], frame_axis: int = 2) -> Grid:
    """Return the grid of latents [R, C, frames, height, width] (or with frames at another axis) cut into patches."""
    shape = arguments["hidden_states"].shape
    time, height, width = _patch(config)
    return Grid(-(-shape[frame_axis] // time), shape[-2] // height, shape[-1] // width)


def frames_first_grid(config: Any, arguments: Mapping[str, Any]) -> Grid:
    """Return the grid of latents [R, frames, C, height, width]."""
    return latent_grid(config, arguments, frame_axis=1)


def channels_last_grid(config: Any, arguments: Mapping[str, Any]) -> Grid:
    """Return the grid of latents [R, frames, height, width, C]."""
    _, frames, rows, columns, _ = arguments["hidden_states"].shape
    time, height, width = _patch(config)
    return Grid(frames // time, rows // height, columns // width)


def listed_grid(config: Any, arguments: Mapping[str, Any]) -> Grid:
    """Return the grid of latents that are a list with one [C, frames, height, width] per video."""
    return latent_grid(config, {"hidden_states": arguments["hidden_states"][0][None]})


def stated_grid(config: Any, arguments: Mapping[str, Any]) -> Grid | None:
    """Return the grid that the call specifies, for latents given as tokens; None if it specifies coordinates."""
    sizes = [arguments.get(name) for name in ("num_frames", "height", "width")]
    return None if None in sizes else Grid(*sizes)  # type: ignore[arg-type]


def item_grid(config: Any, arguments: Mapping[str, Any]) -> Grid | None:
    """Return the grid of the only item of a packed call; None if it has several, or sound or actions."""
    shapes = arguments["vision_token_shapes"]
    others = (arguments.get(name) for name in ("sound_tokens", "action_tokens"))
    return None if len(shapes) != 1 or any(other is not None for other in others) else Grid(*shapes[0])


def _patch(config: Any) -> tuple[int, int, int]:
    """Return the size of a patch along time, height and width."""
    patch = config["patch_size"]
    return (config.get("patch_size_t") or 1, patch, patch) if isinstance(patch, int) else tuple(patch)
