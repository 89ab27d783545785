"""Layers of STDiT3.

Letters: B batch rows, T frames, S positions in a frame, N tokens, L text tokens, C channels, H heads, D = C / H.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from opensora_adacache.models import frame_attention, linear_gelu

ATTENTION_BACKENDS = ("auto", "sdpa", "no-flash", "xformers")
MAX_ATTENTION_HEADS = 65535
"""Largest number of heads that CUDA attention kernels support, because heads are an axis of the kernel's grid."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, backend: str = "auto") -> Tensor:
    """Apply scaled dot-product attention.

    Args:
        q: queries [B, H, N, D].
        k: keys [B, H, M, D].
        v: values [B, H, M, D].
        mask: bool [B, 1, 1, M], true for keys that take part; None for all.
        backend: one of `ATTENTION_BACKENDS`: "auto" and "sdpa" let torch choose, "no-flash" excludes its flash kernels,
            "xformers" calls ``memory_efficient_attention``. All compute the same function.

    Returns:
        [B, H, N, D].
    """
    if backend == "xformers":
        from xformers.ops import memory_efficient_attention

        bias = None
        if mask is not None:
            bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
            bias = bias.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
        out = memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_bias=bias)
        return out.transpose(1, 2)
    if backend == "no-flash":
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def check_attention_backend(backend: str) -> str:
    """Return `backend`; raise ValueError if it is unknown or its package is missing."""
    if backend not in ATTENTION_BACKENDS:
        raise ValueError(f"attention backend must be one of {', '.join(ATTENTION_BACKENDS)}, got {backend!r}")
    if backend == "xformers":
        try:
            import xformers.ops  # noqa: F401
        except ImportError:
            raise ValueError(
                "attention backend 'xformers' needs a package that is not installed: "
                "pip install 'opensora-adacache[xformers]', or choose 'auto'"
            ) from None
    return backend


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x·(1 + scale) + shift; `shift` and `scale` broadcast against `x`."""
    return torch.addcmul(shift, x, 1 + scale)


def sinusoidal_embedding(values: Tensor, num_features: int) -> Tensor:
    """Return [cos, sin] of values·10000^(−i / (num_features / 2)): [B] → [B, num_features], float32."""
    half = num_features // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) * (-math.log(10000.0) / half)
    angles = values.float()[:, None] * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_embedding_2d(
    num_rows: int,
    num_columns: int,
    channels: int,
    scale: Tensor | float,
    device: torch.device,
    rounding: torch.dtype = torch.float32,
) -> Tensor:
    """Return the 2-D sine-cosine position embedding of one frame.

    A coordinate is index / scale · base / count, where base = round(sqrt(num_rows · num_columns)) and count is the
    number of patches along that axis. Channels hold [sin, cos] of the column coordinate, then of the row coordinate.

    Args:
        num_rows: patches from top to bottom.
        num_columns: patches from left to right.
        channels: C, divisible by 4.
        scale: sqrt(height · width) / input_sq_size, a number or a 0-d tensor on `device` (a tensor avoids a
            synchronization).
        device: where to compute.
        rounding: dtype that the frequencies are rounded to; the angles are always float32.

    Returns:
        float32 [num_rows · num_columns, C], row-major.
    """
    base = round(math.sqrt(num_rows * num_columns))
    half = channels // 2
    frequencies = 10000.0 ** (torch.arange(0, half, 2, dtype=torch.float32, device=device) / -half)
    frequencies = frequencies.to(rounding).float()

    def features(count: int) -> Tensor:
        coordinates = torch.arange(count, dtype=torch.float32, device=device) / scale * base / count
        angles = coordinates[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    rows = features(num_rows)[:, None].expand(-1, num_columns, -1)
    columns = features(num_columns)[None].expand(num_rows, -1, -1)
    return torch.cat([columns, rows], dim=-1).reshape(num_rows * num_columns, channels)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis (eps 1e-6) with a weight; torch computes it in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast x is in half precision and the weight is not; torch has no fused kernel for that.
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), eps=1e-6)


def _weights(q_norm: nn.Module, k_norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the weights of the norms of queries and keys, or None if there are no norms."""
    if isinstance(q_norm, RMSNorm) and isinstance(k_norm, RMSNorm):
        return q_norm.weight, k_norm.weight
    return None


class RotaryEmbedding(nn.Module):
    """Rotary position embedding over interleaved pairs of features, base 10000.

    `freqs` [D / 2] is part of the published checkpoint, so it is a parameter (not trained).
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        freqs = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        self.freqs = nn.Parameter(freqs, requires_grad=False)

    def forward(self, num_positions: int, rounding: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [num_positions, D / 2] in dtype `rounding`, of angles rounded to that dtype."""
        positions = torch.arange(num_positions, dtype=rounding, device=self.freqs.device)
        angles = positions[:, None] * self.freqs.to(rounding)
        return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair (x[2i], x[2i+1]) of x [B, T, S, H, D] by the angle of its frame.

    Args:
        x: queries or keys.
        rotary: cosines and sines [T, D / 2]; if they are float32, so is the arithmetic.
    """
    cos, sin = (table[:, None, None] for table in rotary)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2).to(x.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention within frames or across frames, with a fused projection and query/key norms.

    Args:
        channels: C.
        num_heads: H.
        qk_norm: whether queries and keys are normalized.
        backend: see `attend`; "auto" uses the kernel of `frame_attention` across frames where it is supported.
    """

    def __init__(self, channels: int, num_heads: int, qk_norm: bool, backend: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend = backend
        self.qkv = nn.Linear(channels, 3 * channels)
        self.q_norm = RMSNorm(channels // num_heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(channels // num_heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map [B, T, S, C] to [B, T, S, C], attending within each frame or across the frames of each position.

        Args:
            x: tokens.
            rotary: cosines and sines of the frames; if given, the attention is across frames.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.unbind(-3)
        if rotary is not None and x.shape[1] == 1:
            return self.proj(v.flatten(-2))  # attention to a single key returns its value
        if rotary is not None and self.backend == "auto" and frame_attention.is_supported(qkv):
            norms = _weights(self.q_norm, self.k_norm)
            return self.proj(frame_attention.attend_over_frames(qkv, norms, rotary).flatten(-2))
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is None:
            out = self._over_places(q, k, v)
        else:
            out = self._over_frames(rotate(q, rotary), rotate(k, rotary), v)
        return self.proj(out.flatten(-2))

    def _over_places(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        num_frames = q.shape[1]
        q, k, v = (part.flatten(0, 1).transpose(1, 2) for part in (q, k, v))  # [B·T, H, S, D]
        return attend(q, k, v, backend=self.backend).transpose(1, 2).unflatten(0, (-1, num_frames))

    def _over_frames(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with the heads of all places as heads of one row, through views [B, S·H, T, D].

        Rows and places together are not a single axis of any view, and a loop over rows would need a compiled graph for
        each number of rows.
        """
        parts = [part.flatten(2, 3).transpose(1, 2).split(MAX_ATTENTION_HEADS, 1) for part in (q, k, v)]
        outs = [attend(q, k, v, backend=self.backend) for q, k, v in zip(*parts, strict=True)]
        out = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
        return out.transpose(1, 2).unflatten(2, (-1, self.num_heads))


class CrossAttention(nn.Module):
    """Multi-head attention from video tokens to the text tokens of the same row."""

    def __init__(self, channels: int, num_heads: int, backend: str) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend = backend
        self.q_linear = nn.Linear(channels, channels)
        self.kv_linear = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)

    def keys_and_values(self, y: Tensor) -> Tensor:
        """Map text [B, L, C] to its keys and values [2, B, H, L, D]."""
        return self.kv_linear(y).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor | None) -> Tensor:
        """Map x [B, N, C] with keys and values [2, B, H, L, D] and their bool mask [B, 1, 1, L] to [B, N, C]."""
        q = self.q_linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = text.unbind(0)
        out = attend(q, k, v, text_mask, self.backend)
        return self.proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if linear_gelu.is_supported(x, self.fc1.weight):
            return self.fc2(linear_gelu.linear_gelu(x, self.fc1.weight, self.fc1.bias))
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class ScalarEmbedder(nn.Module):
    """Embeds one number per row (a timestep, a frame rate): sinusoid of 256 features, linear, SiLU, linear."""

    def __init__(self, channels: int, num_features: int = 256) -> None:
        super().__init__()
        self.num_features = num_features
        self.mlp = nn.Sequential(nn.Linear(num_features, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, values: Tensor) -> Tensor:
        """Map [B] to [B, C]."""
        dtype = next(self.mlp.parameters()).dtype
        return self.mlp(sinusoidal_embedding(values, self.num_features).to(dtype))


class CaptionEmbedder(nn.Module):
    """Projects text features to the width of the model; holds the null text embedding for guidance."""

    def __init__(self, caption_channels: int, channels: int, num_tokens: int) -> None:
        super().__init__()
        self.y_proj = FeedForward(caption_channels, channels, channels)
        self.y_embedding = nn.Parameter(torch.randn(num_tokens, caption_channels) / caption_channels**0.5)

    def forward(self, y: Tensor) -> Tensor:
        """Map [B, L, caption_channels] to [B, L, C]."""
        return self.y_proj(y)


class PatchEmbedder(nn.Module):
    """Cuts latents into patches with a convolution whose kernel size equals its stride."""

    def __init__(self, patch_size: tuple[int, int, int], in_channels: int, channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, T, H, W], zero-padded at the end to whole patches, to [B, C, T', H', W']."""
        padding = [-size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True)]
        if any(padding):
            x = F.pad(x, (0, padding[2], 0, padding[1], 0, padding[0]))
        return self.proj(x)


class FinalLayer(nn.Module):
    """Normalizes, modulates by the timestep and projects tokens to patches."""

    def __init__(self, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear = nn.Linear(channels, num_outputs)
        self.scale_shift_table = nn.Parameter(torch.randn(2, channels) / channels**0.5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map x [B, T, S, C] with t [B, T or 1, C] to [B, T, S, num_outputs]."""
        shift, scale = (self.scale_shift_table[:, None, None] + t).unsqueeze(-2).unbind(0)
        return self.linear(modulate(F.layer_norm(x, (self.channels,), eps=1e-6), shift, scale))
