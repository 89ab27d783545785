"""The block of STDiT3, eager or compiled.

Letters: B batch rows, T latent frames, S patches per frame, N = T·S tokens, L text tokens, C channels, H heads,
D features per head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_adacache.models.layers import CrossAttention, FeedForward, SelfAttention, modulate
from opensora_adacache.models.structure import STDiT3Config

Compiler: TypeAlias = "str | Callable"
"""A backend of torch.compile."""
COMPILED_VARIANTS = 64
"""Number of graphs that dynamo may keep per function: spatial or temporal, masked or not, times video sizes."""


@dataclass(frozen=True)
class BlockInputs:
    """What every block of one forward pass reads in addition to x.

    Attributes:
        text: keys and values of the text for each block [blocks, 2, B, H, L, D] (see `Conditioning`).
        text_mask: bool [B, 1, 1, L], true for real tokens; None if all tokens are real.
        modulation: six vectors per row and frame [B, T or 1, 6, C].
        rotary: cosines and sines [T, D / 2] of the frames.
        num_frames: T.
        frame_size: rows and columns of patches; their product is S.
    """

    text: Tensor
    text_mask: Tensor | None
    modulation: Tensor
    rotary: tuple[Tensor, Tensor]
    num_frames: int
    frame_size: tuple[int, int]

    @property
    def num_clip_frames(self) -> int:
        """Number of frames of the whole clip, of which x may hold only T."""
        return len(self.rotary[0])

    def rows(self, index: Tensor) -> BlockInputs:
        """Return the inputs of the rows given by `index` (int64 [R]), with the strides that all rows have."""
        mask = None if self.text_mask is None else self.text_mask[index]
        return replace(self, text=self.text[:, :, index], text_mask=mask, modulation=self.modulation[index])


class STDiT3Block(nn.Module):
    """One spatial or temporal block: attention residual, cross-attention residual, MLP residual.

    Each residual, and the sum of the last two, is a separate method, so that code outside the model can observe or
    replace it on a single block. A compiled block runs as one graph if none of these methods is replaced. Otherwise,
    each method is a separate graph, and the replacement stays outside of all graphs.

    Args:
        config: structure of the model.
        place: position in the order of execution; odd positions are temporal blocks.
        attention_backend: see `layers.attend`.
    """

    def __init__(self, config: STDiT3Config, place: int, attention_backend: str) -> None:
        super().__init__()
        channels = config.hidden_size
        self.place = place
        self.temporal = place % 2 == 1
        self.compiler: Compiler | None = None
        self.attn = SelfAttention(channels, config.num_heads, config.qk_norm, attention_backend)
        self.cross_attn = CrossAttention(channels, config.num_heads, attention_backend)
        self.mlp = FeedForward(channels, int(channels * config.mlp_ratio), channels)
        self.scale_shift_table = nn.Parameter(torch.randn(6, channels) / channels**0.5)

    def modulated_input(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the input of the attention, the modulated norm of x, [B, N, C]."""
        return self._run(_modulated_input, x, inputs)

    def attention_residual(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return gate · Attention(modulated norm of x), [B, N, C]: within each frame, or across frames per patch."""
        return self._run(_attention_residual, x, inputs)

    def attention_output(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the attention residual before its gate, [B, N, C]; `gate_attention` applies the gate."""
        return self._run(_attention_output, x, inputs)

    def gate_attention(self, output: Tensor, inputs: BlockInputs) -> Tensor:
        """Return gate · output, [B, N, C]."""
        return self._run(_gate_attention, output, inputs)

    def cross_residual(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the cross-attention of x to the text, [B, N, C]; it has no norm and no gate."""
        return self._run(_cross_residual, x, inputs)

    def mlp_residual(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return gate · MLP(modulated norm of x), [B, N, C]."""
        return self._run(_mlp_residual, x, inputs)

    def cross_mlp_residual(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Return the sum of the cross-attention residual of x and the MLP residual that follows it, [B, N, C]."""
        if self._replaces("cross_residual", "mlp_residual"):
            cross = self.cross_residual(x, inputs)
            return cross + self.mlp_residual(x + cross, inputs)
        return self._run(_cross_mlp_residual, x, inputs)

    def forward(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Map [B, N, C] to [B, N, C]."""
        if self._replaces("attention_residual", "cross_mlp_residual", "cross_residual", "mlp_residual"):
            x = x + self.attention_residual(x, inputs)
            return x + self.cross_mlp_residual(x, inputs)
        return self._run(_block, x, inputs)

    def _replaces(self, *methods: str) -> bool:
        """Return whether one of these methods is replaced on this instance."""
        return any(method in self.__dict__ for method in methods)

    def _run(self, function: Callable, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Call one of the functions below, compiled or eager, with this block's slice of the text."""
        text, mask = inputs.text[self.place], inputs.text_mask
        if self.compiler is not None:
            function = _compiled(function, self.compiler)
            _let_vary(x, 0)
            _let_vary(inputs.modulation, 0)
            _let_vary(text, 1, 3)
            if mask is not None:
                _let_vary(mask, 0, 3)
        return function(self, x, _OwnInputs(text, mask, inputs.modulation, inputs.rotary, inputs.num_frames))


class _OwnInputs(NamedTuple):
    """`BlockInputs` of one block: `text` holds only the keys and values of this block, [2, B, H, L, D]."""

    text: Tensor
    text_mask: Tensor | None
    modulation: Tensor
    rotary: tuple[Tensor, Tensor]
    num_frames: int


@cache
def _compiled(function: Callable, compiler: Compiler) -> Callable:
    """Return a function compiled into one graph per size, which all blocks of a kind share."""
    return torch.compile(function, fullgraph=True, dynamic=False, backend=compiler)


def _let_vary(tensor: Tensor, *axes: int) -> None:
    """Let graphs accept any length along some axes.

    Prompts have many lengths, and where each video decides for itself, the number of rows that compute changes from
    step to step. Each would need a graph of its own. (A single row, without guidance, has one: dynamo always
    distinguishes 1 from larger numbers.)
    """
    for axis in axes:
        torch._dynamo.maybe_mark_dynamic(tensor, axis)


def allow_variants() -> None:
    """Raise dynamo's limit on graphs per function to `COMPILED_VARIANTS`."""
    import torch._dynamo.config as config

    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before torch 2.6
    setattr(config, name, max(getattr(config, name), COMPILED_VARIANTS))


# The arithmetic of a block, independent of everything that differs between blocks, so that all blocks share one graph.


def _block(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    x = x + _attention_residual(block, x, own)
    return x + _cross_mlp_residual(block, x, own)


def _attention_residual(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    shift, scale, gate = _vectors(block, own, 0)
    h = _modulated_norm(x, own, shift, scale)
    return (gate * block.attn(h, own.rotary if block.temporal else None)).flatten(1, 2)


def _attention_output(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    shift, scale, _ = _vectors(block, own, 0)
    return block.attn(_modulated_norm(x, own, shift, scale), own.rotary if block.temporal else None).flatten(1, 2)


def _gate_attention(block: STDiT3Block, output: Tensor, own: _OwnInputs) -> Tensor:
    _, _, gate = _vectors(block, own, 0)
    return (gate * output.unflatten(1, (own.num_frames, -1))).flatten(1, 2)


def _cross_mlp_residual(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    cross = _cross_residual(block, x, own)
    return cross + _mlp_residual(block, x + cross, own)


def _cross_residual(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    return block.cross_attn(x, own.text, own.text_mask)


def _mlp_residual(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    shift, scale, gate = _vectors(block, own, 3)
    return (gate * block.mlp(_modulated_norm(x, own, shift, scale))).flatten(1, 2)


def _modulated_input(block: STDiT3Block, x: Tensor, own: _OwnInputs) -> Tensor:
    shift, scale, _ = _vectors(block, own, 0)
    return _modulated_norm(x, own, shift, scale).flatten(1, 2)


def _vectors(block: STDiT3Block, own: _OwnInputs, first: int) -> tuple[Tensor, ...]:
    """Return shift, scale and gate, each [B, T or 1, 1, C], of the attention (first = 0) or the MLP (first = 3)."""
    chosen = slice(first, first + 3)
    return (block.scale_shift_table[chosen] + own.modulation[:, :, chosen]).unsqueeze(-2).unbind(2)


def _modulated_norm(x: Tensor, own: _OwnInputs, shift: Tensor, scale: Tensor) -> Tensor:
    """Return the modulated layer norm of x [B, N, C], split into frames: [B, T, S, C]."""
    return modulate(F.layer_norm(x.unflatten(1, (own.num_frames, -1)), x.shape[-1:], eps=1e-6), shift, scale)
