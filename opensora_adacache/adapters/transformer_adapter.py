"""`TransformerAdapter`: what a cache must know about a class of diffusion transformers, as data.

Letters: R batch rows (videos × guidance branches), T latent frames, S patches per frame, N = T·S tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LAYOUTS = ("frames", "patches", "sequence")


class Grid(NamedTuple):
    """Number of video tokens along time, height and width."""

    frames: int
    height: int
    width: int


def every_call(arguments: Mapping[str, Any]) -> bool:
    """Return True: every call of the model is a denoising step."""
    return True


@dataclass(frozen=True, kw_only=True)
class TransformerAdapter:
    """Describes where a transformer keeps its blocks, and what its forward and its blocks take and return.

    Pass one to ``apply_cache(model, config, steps, adapter=…)`` for a class that the package does not know. Most models
    need `stacks` and one or two other fields. docs/guide/adapters.md shows an example.

    Attributes:
        stacks: names of the module lists that hold the blocks, in order of execution. Find them in ``print(model)``:
            they are the ``ModuleList`` that `forward` loops over after it has embedded latents, text and timestep.
        interleaved: whether the lists alternate block by block, as spatial and temporal blocks do. A layer is then one
            block of each list.
        before: module lists that run before the stacks on the same tokens, and whose results `forward` adds to the
            tokens between the blocks, as those of a control branch. A skipped step does not run them.
        between: module lists that `forward` calls between the blocks, and whose result it adds to the tokens, as those
            of a face adapter. A skipped step does not run them; `forward` then gets zeros, also in place of each tensor
            of a tuple.
        skips_blocks: whether some calls leave out some of the blocks.
        latents: argument of the model's forward with the noisy latents: a tensor whose first axis is the batch, or a
            list of tensors, one per video. With a `layout` of "sequence", a list holds the items of one video, of which
            the last is denoised.
        timestep: argument of the model's forward with the timestep.
        other_timesteps: arguments with the timesteps of further streams. The first of them counts where a call gives no
            timestep for the video, because none of its frames are noisy.
        timestep_by_row: whether the first axis of the timestep is the batch. If not, its noisiest value counts.
        timestep_range: timestep of pure noise, or of clean latents if it rises: 1000, or 1 for timesteps in 0..1.
        rising_timestep: whether the timestep rises from 0 over the run instead of falling to 0.
        rectified_flow: whether timestep / `timestep_range` is the noise level. Policies that read it need this.
        is_step: returns whether a call, given its arguments by name, is a denoising step. Other calls, which fill a
            memory of the model, run as they are.
        grid: returns the token grid from the model's config and the arguments of a call, or None if they do not
            determine it. None if it is never known; then policies that read frames, such as MoReg, are refused.
            The tokens must be ordered frame by frame.
        block_tokens: argument of a block's forward with the video tokens.
        block_text: argument of a block's forward with a second stream that the block also returns: text or audio
            tokens. None if blocks return the video tokens only.
        returns: what a block returns, in order, from "tokens", "text" and None (anything else); ("tokens",) for a block
            that returns one tensor. None: as diffusers has registered the class of the block, or else ("tokens",).
        keeps_text: whether the model reads the second stream after the last block, so that it must be restored.
        layout: module list → how its blocks take the video tokens, if not as [R, N, C]: "frames" for [R·T, S, C],
            "patches" for [R·S, T, C], "sequence" for [N, C] without a batch.
        joined: module lists whose blocks get text and video tokens as one sequence.
        text_last: whether the text follows the video tokens in such a sequence; by default it precedes them.
        in_place: whether blocks, or `forward` between them, write into the video tokens that they were given. Those
            that the cache needs are then copied.
        history_first: whether tokens of earlier frames come before those of the grid, and are not read after the
            stack. They are neither measured nor stored.
        shared: arguments of a block or of the model's forward that all rows share, such as rotary embeddings. Name
            those whose first axis may happen to be as long as the batch.
        whole_batch: arguments of a block that hold tensors of all rows and cannot be divided, such as a key-value
            memory. With one of them, the videos of a batch decide together.
        splits_tokens: whether the model was tried with diffusers' context parallelism, where each device holds an equal
            part of the video tokens.
        attention: name of the first attention in a block; its input is the block's modulated input, which TeaCache and
            SeaCache read. None if it is unknown; then these policies are refused.
        after_attention: module list → name of the submodule whose first input is the block's input plus its gated
            attention residual: usually the norm after the attention. AdaCache measures this residual. A list without an
            entry has no such submodule: its probe is the residual of the whole block.
    """

    stacks: tuple[str, ...] = ("transformer_blocks",)
    interleaved: bool = False
    before: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    skips_blocks: bool = False
    latents: str = "hidden_states"
    timestep: str = "timestep"
    other_timesteps: tuple[str, ...] = ()
    timestep_by_row: bool = True
    timestep_range: float = 1000.0
    rising_timestep: bool = False
    rectified_flow: bool = False
    is_step: Callable[[Mapping[str, Any]], bool] = every_call
    grid: Callable[[Any, Mapping[str, Any]], Grid | None] | None = None
    block_tokens: str = "hidden_states"
    block_text: str | None = None
    returns: tuple[str | None, ...] | None = None
    keeps_text: bool = False
    layout: Mapping[str, str] = field(default_factory=dict)
    joined: tuple[str, ...] = ()
    text_last: bool = False
    in_place: bool = False
    history_first: bool = False
    shared: tuple[str, ...] = ()
    whole_batch: tuple[str, ...] = ()
    splits_tokens: bool = False
    attention: str | None = None
    after_attention: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_packed(self) -> bool:
        """Whether a call holds one video, as a sequence without a batch, perhaps after items that condition it."""
        return "sequence" in self.layout.values()

    def __post_init__(self) -> None:
        for name in ("stacks", "before", "between", "other_timesteps", "joined", "shared", "whole_batch"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a tuple of names, got the single name {getattr(self, name)!r}")
        if not self.stacks:
            raise ValueError("stacks must name at least one module list of the model, got none")
        if wrong := sorted(set(self.layout.values()) - set(LAYOUTS)):
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {wrong[0]!r}")
        listed = {*self.layout, *self.joined, *self.after_attention} - set(self.stacks)
        if listed:
            raise ValueError(f"{sorted(listed)[0]!r} is described but is not one of the stacks {self.stacks}")
        if self.returns is not None:
            streams = [name for name in self.returns if name is not None]
            if sorted(streams) != sorted({"tokens"} | ({"text"} if self.block_text else set())):
                raise ValueError(
                    "returns must contain 'tokens' once, and 'text' once exactly if block_text is set, got "
                    f"{self.returns}"
                )
        elif self.block_text is not None:
            raise ValueError("block_text needs returns, such as ('tokens', 'text'): what a block returns, in order")
        if self.history_first and self.grid is None:
            raise ValueError("history_first needs grid: it says how many of the last tokens belong to the video")
