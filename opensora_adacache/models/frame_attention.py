"""Attention across frames at each patch position, as one Triton kernel.

A video has few frames and many positions, so attention across frames moves far more bytes than it computes. Fused
kernels for long sequences pad 15 frames to 64 or 128 and need norms and rotation to be applied beforehand. This kernel
reads the output of the projection, applies norms, rotation and attention in registers, and writes the input of the next
projection.

Letters: B batch rows, T frames, S positions in a frame, H heads, D features per head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # torch builds for the CPU do not include it
    triton = None

MAX_FRAMES, MAX_FEATURES = 64, 128
"""Limit for a head, whose queries, keys and values must fit into the registers of one program."""


def is_supported(qkv: Tensor) -> bool:
    """Return whether `attend_over_frames` supports a projection [B, T, S, 3, H, D]: CUDA, half precision, no grad."""
    return (
        triton is not None
        and qkv.is_cuda
        and qkv.dtype in (torch.bfloat16, torch.float16)
        and qkv.shape[1] <= MAX_FRAMES
        and qkv.shape[-1] <= MAX_FEATURES
        and not (torch.is_grad_enabled() and qkv.requires_grad)
    )


def attend_over_frames(qkv: Tensor, norms: tuple[Tensor, Tensor] | None, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Apply norms, rotation and attention across frames, in float32 except for the operands of the two products.

    Args:
        qkv: projected queries, keys and values [B, T, S, 3, H, D], contiguous.
        norms: weights of the RMS norms (eps 1e-6) of queries and of keys, [D] each; None for no norms.
        rotary: cosines and sines of the frames [T, D / 2].

    Returns:
        [B, T, S, H, D], contiguous.
    """
    num_rows, num_frames, num_places, _, num_heads, width = qkv.shape
    out = torch.empty(num_rows, num_frames, num_places, num_heads, width, dtype=qkv.dtype, device=qkv.device)
    cos, sin = rotary
    q_weight, k_weight = norms or rotary  # a kernel without norms reads neither
    _kernel[(num_rows * num_places * num_heads,)](
        qkv,
        out,
        q_weight,
        k_weight,
        cos,
        sin,
        num_places,
        width**-0.5,
        NUM_FRAMES=num_frames,
        NUM_HEADS=num_heads,
        WIDTH=width,
        HAS_NORM=norms is not None,
        BLOCK_T=max(16, _power_of_two(num_frames)),
        BLOCK_D=max(16, _power_of_two(width)),
        num_warps=4 if num_frames <= 32 else 8,
    )
    return out


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below `number`.

    >>> _power_of_two(15), _power_of_two(16), _power_of_two(72)
    (16, 16, 128)
    """
    return 1 << (number - 1).bit_length()


_kernel: Any = None
if triton is not None:

    @triton.jit
    def _normed_and_rotated(
        x, weight, c, s, features, WIDTH: tl.constexpr, HAS_NORM: tl.constexpr, BLOCK_T: tl.constexpr,
        BLOCK_D: tl.constexpr,
    ):  # fmt: skip
        """Normalize queries or keys [T, D] of one head, then rotate their pairs by the tables [T, D / 2]."""
        x = x.to(tl.float32)
        if HAS_NORM:
            scale = tl.rsqrt(tl.sum(x * x, axis=1) / WIDTH + 1e-6)
            w = tl.load(weight + features, mask=features < WIDTH, other=0.0).to(tl.float32)
            x = x * scale[:, None] * w[None, :]
        even, odd = tl.split(tl.reshape(x, [BLOCK_T, BLOCK_D // 2, 2]))
        return tl.reshape(tl.join(even * c - odd * s, odd * c + even * s), [BLOCK_T, BLOCK_D])

    @triton.jit
    def _attend_kernel(
        qkv, out, q_weight, k_weight, cos, sin, num_places, scale,
        NUM_FRAMES: tl.constexpr, NUM_HEADS: tl.constexpr, WIDTH: tl.constexpr, HAS_NORM: tl.constexpr,
        BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    ):  # fmt: skip
        """One program per position and head. Neighbouring programs are heads, which are adjacent in memory."""
        CHANNELS: tl.constexpr = NUM_HEADS * WIDTH
        program = tl.program_id(0).to(tl.int64)
        head, place = program % NUM_HEADS, program // NUM_HEADS
        row, place = place // num_places, place % num_places
        frames, features, pairs = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_D // 2)
        in_tile = (frames < NUM_FRAMES)[:, None] & (features < WIDTH)[None, :]
        in_table = (frames < NUM_FRAMES)[:, None] & (pairs < WIDTH // 2)[None, :]
        token = (row * NUM_FRAMES + frames) * num_places + place
        source = qkv + token[:, None] * (3 * CHANNELS) + head * WIDTH + features[None, :]
        q = tl.load(source, mask=in_tile, other=0.0)
        k = tl.load(source + CHANNELS, mask=in_tile, other=0.0)
        v = tl.load(source + 2 * CHANNELS, mask=in_tile, other=0.0)
        table = frames[:, None] * (WIDTH // 2) + pairs[None, :]
        c = tl.load(cos + table, mask=in_table, other=0.0).to(tl.float32)
        s = tl.load(sin + table, mask=in_table, other=0.0).to(tl.float32)
        q = _normed_and_rotated(q, q_weight, c, s, features, WIDTH, HAS_NORM, BLOCK_T, BLOCK_D)
        k = _normed_and_rotated(k, k_weight, c, s, features, WIDTH, HAS_NORM, BLOCK_T, BLOCK_D)
        scores = tl.dot((q * scale).to(v.dtype), tl.trans(k.to(v.dtype)))
        scores = tl.where((frames < NUM_FRAMES)[None, :], scores, float("-inf"))
        weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
        weights = weights / tl.sum(weights, axis=1)[:, None]
        result = tl.dot(weights.to(v.dtype), v)
        target = out + token[:, None] * CHANNELS + head * WIDTH + features[None, :]
        tl.store(target, result.to(v.dtype), mask=in_tile)

    _kernel = _attend_kernel
