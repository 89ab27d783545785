"""What the adapter knows about each diffusers transformer: the location of its blocks, its tokens and its probe.

Letters: R batch rows (videos × guidance branches), T latent frames, S patches per frame, N = T·S tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Grid(NamedTuple):
    """Number of video tokens along time, height and width."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class DiffusersModel:
    """A diffusers transformer.

    Attributes:
        grid: returns the token grid from the model's config and the arguments of its forward, or None if they do not
            determine it.
        stacks: names of the module lists that hold the blocks, in order of execution.
        interleaved: whether the lists alternate block by block (a layer is then one block of each list).
        attention: name of the first attention in a block; its input is the block's modulated input.
        after_attention: module list → name of the submodule whose first input is the block's input plus its gated
            attention residual. A list without an entry has no such submodule: its probe is the residual of the whole
            block.
        row_axis: module list → what the first axis of its blocks holds in addition to R rows: "frames" for [R·T, S, C],
            "patches" for [R·S, T, C]. No entry for [R, N, C].
        rectified_flow: whether timestep / 1000 is the noise level.
        rising_timestep: whether the timestep rises from 0 to 1000 instead of falling.
        shared: arguments of a block that all rows share, even if their first axis happens to have the same length.
        keeps_text: whether the model may read the text states that leave the last block.
        joined: module lists whose blocks get text and video tokens as one sequence, the text first.
    """

    grid: Callable[[Any, Mapping[str, Any]], Grid | None]
    stacks: tuple[str, ...] = ("transformer_blocks",)
    interleaved: bool = False
    attention: str | None = "attn1"
    after_attention: Mapping[str, str] = field(default_factory=dict)
    row_axis: Mapping[str, str] = field(default_factory=dict)
    rectified_flow: bool = False
    rising_timestep: bool = False
    shared: tuple[str, ...] = ()
    keeps_text: bool = False
    joined: tuple[str, ...] = ()


def latent_grid(config: Any, arguments: Mapping[str, Any], frame_axis: int = 2) -> Grid:
    """Return the grid of latents [R, C, frames, height, width] (or with frames at another axis) cut into patches."""
    shape = arguments["hidden_states"].shape
    patch = config["patch_size"]
    time, height, width = (config.get("patch_size_t") or 1, patch, patch) if isinstance(patch, int) else patch
    return Grid(-(-shape[frame_axis] // time), shape[-2] // height, shape[-1] // width)


def frames_first_grid(config: Any, arguments: Mapping[str, Any]) -> Grid:
    """Return the grid of latents [R, frames, C, height, width]."""
    return latent_grid(config, arguments, frame_axis=1)


def stated_grid(config: Any, arguments: Mapping[str, Any]) -> Grid | None:
    """Return the grid that the call specifies, for latents given as tokens; None if it specifies coordinates."""
    sizes = [arguments.get(name) for name in ("num_frames", "height", "width")]
    return None if None in sizes else Grid(*sizes)  # type: ignore[arg-type]


def unknown_grid(config: Any, arguments: Mapping[str, Any]) -> None:
    """Return None: the layout of the tokens is unknown."""
    return None


MODELS: dict[str, DiffusersModel] = {
    "LatteTransformer3DModel": DiffusersModel(
        grid=latent_grid,
        stacks=("transformer_blocks", "temporal_transformer_blocks"),
        interleaved=True,
        after_attention={"transformer_blocks": "attn2", "temporal_transformer_blocks": "norm2"},
        row_axis={"transformer_blocks": "frames", "temporal_transformer_blocks": "patches"},
    ),
    "CogVideoXTransformer3DModel": DiffusersModel(
        grid=frames_first_grid,
        after_attention={"transformer_blocks": "norm2"},
        shared=("image_rotary_emb",),
    ),
    "HunyuanVideoTransformer3DModel": DiffusersModel(
        grid=latent_grid,
        stacks=("transformer_blocks", "single_transformer_blocks"),
        attention="attn",
        after_attention={"transformer_blocks": "norm2"},
        rectified_flow=True,
        shared=("freqs_cis", "image_rotary_emb"),
    ),
    "WanTransformer3DModel": DiffusersModel(
        grid=latent_grid,
        stacks=("blocks",),
        after_attention={"blocks": "norm2"},
        rectified_flow=True,
        shared=("rotary_emb",),
    ),
    "LTXVideoTransformer3DModel": DiffusersModel(
        grid=stated_grid,
        after_attention={"transformer_blocks": "attn2"},
        rectified_flow=True,
    ),
    "MochiTransformer3DModel": DiffusersModel(
        grid=latent_grid,
        after_attention={"transformer_blocks": "norm3"},
        rectified_flow=True,
        rising_timestep=True,
        shared=("image_rotary_emb",),
    ),
    "AllegroTransformer3DModel": DiffusersModel(
        grid=latent_grid,
        after_attention={"transformer_blocks": "attn2"},
        shared=("image_rotary_emb",),
    ),
    "Flux2Transformer2DModel": DiffusersModel(
        grid=unknown_grid,
        stacks=("transformer_blocks", "single_transformer_blocks"),
        attention=None,
        shared=("image_rotary_emb",),
        joined=("single_transformer_blocks",),
    ),
    "MotifVideoTransformer3DModel": DiffusersModel(  # its decoder blocks get video tokens where others get text
        grid=unknown_grid,
        stacks=("transformer_blocks", "single_transformer_blocks"),
        attention=None,
        shared=("image_rotary_emb",),
    ),
}
"""Class names → descriptions. Any other transformer with registered blocks uses `generic_model`."""

PARTS = ("Transformer2DModel", "TransformerTemporalModel")
"""Classes that are parts of a UNet: they see no timestep."""


def generic_model(stacks: tuple[str, ...]) -> DiffusersModel:
    """Describe a transformer of which only the blocks are known: no token grid, whole blocks as probes."""
    shared = ("image_rotary_emb", "rotary_emb", "freqs_cis")
    return DiffusersModel(unknown_grid, stacks, attention=None, shared=shared, keeps_text=True)
