"""Count what a denoising step costs and what a cache holds, at any size, without weights.

The executed operators are counted on the meta device, where tensors have shapes and no contents, so the
published model at 720p takes seconds and no memory.

Convention: one multiplication with its addition counts as 2 FLOPs; matrix products, convolutions and both
products inside attention count, element-wise work (norms, activations, adding a cached residual) does not. A
step is the one model call on both halves of guidance. All text tokens of a padded prompt count, since
attention masks them and still computes them.

The published baseline of Open-Sora 1.2 (480p, 2 s, 30 steps: 3230.24 TFLOPs) follows the same convention: our
count is 5.0 % above it with 300 text tokens and 1.6 % above it with 20, as many as a short prompt has when
padding is dropped first. Multiply-accumulates counted once, or one half of guidance, would be 48 % below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BLOCK_LISTS = ("spatial_blocks", "temporal_blocks")
NUM_GUIDANCE_ROWS = 2


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one guided step of one video.

    Attributes:
        computed: all blocks run.
        reused: no block runs; embeddings and the final layer remain.
    """

    computed: int
    reused: int

    def run(self, num_computed: int, num_steps: int) -> int:
        """Return the FLOPs of a run of `num_steps` of which `num_computed` are computed.

        >>> StepFlops(computed=10, reused=1).run(num_computed=3, num_steps=5)
        32
        """
        return num_computed * self.computed + (num_steps - num_computed) * self.reused


def count_step(model: Any, latent_size: Sequence[int], num_text_tokens: int) -> StepFlops:
    """Count the FLOPs of one guided step of one video by executing it on the meta device.

    Args:
        model: a module with the call and the config of STDiT3, built under ``torch.device("meta")``; its
            blocks lie in `BLOCK_LISTS`.
        latent_size: latents (T, H, W) of the video.
        num_text_tokens: L, padding included.

    Raises:
        ValueError: the model holds weights. Fused attention kernels of real devices hide their products from
            the counter; on the meta device each is counted once.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if any(parameter.device.type != "meta" for parameter in model.parameters()):
        raise ValueError("FLOPs are counted on the meta device; build the model under torch.device('meta')")
    config, rows = model.config, NUM_GUIDANCE_ROWS
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False, depth=3) as counter:
        model(
            torch.empty(rows, config.in_channels, *latent_size),
            torch.empty(rows),
            torch.empty(rows, 1, num_text_tokens, config.caption_channels),
            mask=torch.empty(1, num_text_tokens, dtype=torch.int64),
            fps=torch.empty(1),
            height=torch.empty(1),
            width=torch.empty(1),
        )
    total = counter.get_total_flops()
    in_blocks = 0
    for path, counts in counter.get_flop_counts().items():
        _, *names = path.split(".")
        # One entry per module of any depth: take each block as a whole, not its list nor its parts.
        if len(names) == 2 and names[0] in BLOCK_LISTS:
            in_blocks += sum(counts.values())
    return StepFlops(computed=total, reused=total - in_blocks)


def count_tokens(latent_size: Sequence[int], patch_size: Sequence[int]) -> int:
    """Return N, the tokens of one video: whole patches along each axis, the last one padded.

    >>> count_tokens((15, 60, 106), (1, 2, 2))
    23850
    """
    tokens = 1
    for size, patch in zip(latent_size, patch_size, strict=True):
        tokens *= -(-size // patch)
    return tokens


def count_residuals(granularity: str, depth: int, num_probe_sites: int = 1) -> int:
    """Return how many residuals a cache holds.

    Args:
        granularity: "stack" keeps the residual of the whole stack and one per probe site; "block" keeps two,
            of attention and of cross-attention with MLP, for each of the 2 · depth blocks, as the reference
            does (its probes read those).
        depth: spatial (or temporal) blocks of the model.
        num_probe_sites: sites at which the distance is measured.

    Raises:
        ValueError: another granularity.

    >>> count_residuals("stack", 28), count_residuals("block", 28)
    (2, 112)
    """
    if granularity not in ("stack", "block"):
        raise ValueError(f"granularity must be 'stack' or 'block', got {granularity!r}")
    return 1 + num_probe_sites if granularity == "stack" else 4 * depth


def count_cache_bytes(num_residuals: int, num_tokens: int, hidden_size: int, bytes_per_value: int) -> int:
    """Return the bytes of the cached residuals of one video, both halves of guidance.

    Open-Sora 1.2 at 480p and 2 s in bf16, as the reference caches it:

    >>> round(count_cache_bytes(112, 23850, 1152, 2) / 1e9, 1)
    12.3
    """
    return num_residuals * NUM_GUIDANCE_ROWS * num_tokens * hidden_size * bytes_per_value
