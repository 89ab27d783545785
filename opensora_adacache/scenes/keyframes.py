"""Starts the temporal part of the VAE as one that keeps every fourth frame and repeats it.

The latents of a group of frames are then those of its last frame, and training begins with everything that stands
still restored. The decoder sees the latents of earlier groups, so what it has to learn is to interpolate between two
kept frames. A random start learns colours and backgrounds first, and a spinning star is a blot for most of a training.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from opensora_adacache.models.temporal_vae import CausalConv3d, ResidualBlock, TemporalVAE

# Each latent channel c travels in group c of the GroupNorms as the four channels z, -z, CONSTANT, -CONSTANT:
# silu(z) - silu(-z) = z gives it back after the nonlinearity, and the constants keep the norm from changing its scale.
CONSTANT = 3.0


def kept_frames(num_frames: int, time_factor: int) -> list[int]:
    """Return the frames of a clip that `keep_frames` makes the latents of.

    >>> kept_frames(17, 4), kept_frames(8, 4)
    ([0, 4, 8, 12, 16], [3, 7])
    """
    return list(range((num_frames - 1) % time_factor, num_frames, time_factor))


@torch.no_grad()
def keep_frames(vae: TemporalVAE) -> None:
    """Set the weights of an untrained temporal part; channels beside those that carry latents stay random.

    Args:
        vae: changed in place. Every transition between its levels halves the frames, it has a group per latent channel
            and at least four channels per group.
    """
    config = vae.config
    widths, count = config.level_channels, config.latent_channels
    assert all(config.temporal_downsample) and count <= config.num_groups and widths[0] >= 4 * config.num_groups
    sizes = {width: width // config.num_groups for width in widths}

    def enter(conv: CausalConv3d, width: int) -> None:
        size = sizes[width]
        links = [(c * size + sign, c, (1.0, -1.0)[sign]) for c in range(count) for sign in (0, 1)]
        _set(conv, range(count * size), links)

    def leave(conv: CausalConv3d, width: int) -> None:
        size = sizes[width]
        deviation = ((2 + 2 * CONSTANT**2) / size) ** 0.5
        links = [(c, c * size + sign, (deviation, -deviation)[sign]) for c in range(count) for sign in (0, 1)]
        _set(conv, range(conv.conv.out_channels), links)

    def stay(conv: CausalConv3d, source: int, target: int, copies: int = 1, constants: bool = False) -> None:
        before, after = sizes[source], sizes[target]
        kept = range(2 if constants else 4)
        links = [
            ((c * after + k) * copies + copy, c * before + k, 1.0)
            for c in range(count)
            for k in kept
            for copy in range(copies)
        ]
        _set(conv, range(count * after * copies), links)
        if constants and conv.conv.bias is not None:
            for c in range(count):
                for copy in range(copies):
                    conv.conv.bias[(c * after + 2) * copies + copy] = CONSTANT
                    conv.conv.bias[(c * after + 3) * copies + copy] = -CONSTANT

    for block in vae.modules():
        if isinstance(block, ResidualBlock):
            block.conv2.conv.weight.zero_()
            if block.conv3 is not None:
                stay(block.conv3, block.conv3.conv.in_channels, block.conv3.conv.out_channels)
    encoder, decoder = vae.encoder, vae.decoder
    enter(encoder.conv_in, widths[0])
    for level, width in enumerate(widths[:-1]):
        stay(encoder.conv_blocks[level], width, width, constants=True)  # type: ignore[arg-type]
    leave(encoder.conv2, widths[-1])
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _set(conv, range(conv.conv.out_channels), [(row, row, 1.0) for row in range(conv.conv.out_channels)])
    enter(decoder.conv1, widths[-1])
    for level, width in enumerate(widths[1:]):
        stay(decoder.conv_blocks[level], width, width, copies=2, constants=True)  # type: ignore[arg-type]
    leave(decoder.conv_out, widths[0])


def _set(conv: CausalConv3d, cleared: Iterable[int], links: Iterable[tuple[int, int, float]]) -> None:
    """Clear rows of a convolution, then link output to input channels at its last frame and central pixel."""
    weight, bias = conv.conv.weight, conv.conv.bias
    rows = list(cleared)
    weight[rows] = 0.0
    if bias is not None:
        bias[rows] = 0.0
    middle = weight.shape[-1] // 2
    for target, source, value in links:
        weight[target, source, -1, middle, middle] = value
