"""The temporal part of the Open-Sora VAE 1.2: compresses the spatial latents of frames over time and restores them.

Letters: B clips, C channels, F frames, T latent frames, H and W height and width of the latents.

Parameter names match the published checkpoint ``hpcai-tech/OpenSora-VAE-v1.2``, where they are prefixed with
``temporal_vae.``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class TemporalVAEConfig:
    """Structure of a `TemporalVAE`; the defaults are those of the published model.

    Args:
        filters: channels of the first level.
        num_res_blocks: residual blocks per level, and between the last level and the latents.
        channel_multipliers: channels of each level, in units of `filters`.
        temporal_downsample: for each transition between levels, whether it halves the number of frames.
        latent_channels: channels of the spatial latents at the input and of the latents at the output.
        num_groups: groups of every GroupNorm; must divide the channels of every level.

    Raises:
        ValueError: the numbers do not fit together.
    """

    filters: int = 128
    num_res_blocks: int = 4
    channel_multipliers: Sequence[int] = (1, 2, 2, 4)
    temporal_downsample: Sequence[bool] = (False, True, True)
    latent_channels: int = 4
    num_groups: int = 32

    def __post_init__(self) -> None:
        # JSON has lists; tuples keep the dataclass hashable and comparable.
        object.__setattr__(self, "channel_multipliers", tuple(self.channel_multipliers))
        object.__setattr__(self, "temporal_downsample", tuple(self.temporal_downsample))
        for name in ("filters", "num_res_blocks", "latent_channels", "num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"temporal VAE: {name} must be at least 1, got {getattr(self, name)}")
        if len(self.temporal_downsample) != len(self.channel_multipliers) - 1:
            raise ValueError(
                f"temporal VAE: {len(self.channel_multipliers)} channel_multipliers need one "
                f"temporal_downsample fewer, got {len(self.temporal_downsample)}"
            )
        for channels in self.level_channels:
            if channels < 1 or channels % self.num_groups:
                raise ValueError(
                    "temporal VAE: channels of every level must be a multiple of "
                    f"num_groups={self.num_groups}, got {channels}; change filters or num_groups"
                )

    @property
    def level_channels(self) -> tuple[int, ...]:
        """The channels of each level, first to last."""
        return tuple(self.filters * multiplier for multiplier in self.channel_multipliers)

    @property
    def time_factor(self) -> int:
        """The number of frames per latent frame."""
        return 2 ** sum(map(bool, self.temporal_downsample))


class CausalConv3d(nn.Module):
    """Convolution in space and time in which a frame sees only itself and earlier frames.

    The time axis is padded with zeros before the first frame; height and width keep their size. A time stride of s
    divides the number of frames by s.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        time_stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_leading = kernel_size - time_stride if kernel_size > 1 else 0
        half = kernel_size // 2
        # Space is padded inside the convolution, which avoids a padded copy of the whole tensor.
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            kernel_size,
            stride=(time_stride, 1, 1),
            padding=(0, half, half),
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.num_leading:
            x = F.pad(x, (0, 0, 0, 0, self.num_leading, 0))
        return self.conv(x)


class ResidualBlock(nn.Module):
    """Adds two normalized causal convolutions to the input, which a 1x1x1 convolution maps if the channels change."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, 3, bias=False)
        self.norm2 = nn.GroupNorm(num_groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, 3, bias=False)
        self.conv3 = None if in_channels == out_channels else CausalConv3d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv3 is None else self.conv3(x))


def _residual_blocks(in_channels: int, out_channels: int, config: TemporalVAEConfig) -> nn.Sequential:
    sources = [in_channels] + [out_channels] * (config.num_res_blocks - 1)
    return nn.Sequential(*(ResidualBlock(source, out_channels, config.num_groups) for source in sources))


class Encoder(nn.Module):
    """Maps spatial latents [B, C, F, H, W] to moments [B, 2C, F / time_factor, H, W]."""

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        channels = config.level_channels
        self.conv_in = CausalConv3d(config.latent_channels, channels[0], 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            _residual_blocks(before, here, config)
            for before, here in zip((channels[0], *channels[:-1]), channels, strict=True)
        )
        # A level that keeps the frame rate has no convolution; Identity preserves the numbering.
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(here, here, 3, time_stride=2) if halves else nn.Identity()
            for here, halves in zip(channels[:-1], config.temporal_downsample, strict=True)
        )
        self.res_blocks = _residual_blocks(channels[-1], channels[-1], config)
        self.norm1 = nn.GroupNorm(config.num_groups, channels[-1])
        self.conv2 = CausalConv3d(channels[-1], 2 * config.latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level, blocks in enumerate(self.block_res_blocks):
            if level > 0:
                x = self.conv_blocks[level - 1](x)
            x = blocks(x)
        return self.conv2(F.silu(self.norm1(self.res_blocks(x))))


class Decoder(nn.Module):
    """Maps latents [B, C, T, H, W] to spatial latents [B, C, T * time_factor, H, W], last level first."""

    def __init__(self, config: TemporalVAEConfig) -> None:
        super().__init__()
        channels = config.level_channels
        self.doubles = tuple(map(bool, config.temporal_downsample))
        self.conv1 = CausalConv3d(config.latent_channels, channels[-1], 3)
        self.res_blocks = _residual_blocks(channels[-1], channels[-1], config)
        self.block_res_blocks = nn.ModuleList(
            _residual_blocks(above, here, config)
            for here, above in zip(channels, (*channels[1:], channels[-1]), strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(above, 2 * above, 3) if doubles else nn.Identity()
            for above, doubles in zip(channels[1:], self.doubles, strict=True)
        )
        self.norm1 = nn.GroupNorm(config.num_groups, channels[0])
        self.conv_out = CausalConv3d(channels[0], config.latent_channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(z))
        for level in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[level](x)
            if level > 0 and self.doubles[level - 1]:
                x = rearrange(self.conv_blocks[level - 1](x), "b (c two) t h w -> b c (t two) h w", two=2)
        return self.conv_out(F.silu(self.norm1(x)))


class TemporalVAE(nn.Module):
    """Compresses clips of spatial latents over time; can be trained on its own.

    The reference implementation samples from the posterior that `encode` returns. Here the caller chooses between its
    mean and a sample from `sample_posterior`.
    """

    def __init__(self, config: TemporalVAEConfig | None = None) -> None:
        super().__init__()
        self.config = config or TemporalVAEConfig()
        latent = self.config.latent_channels
        self.encoder = Encoder(self.config)
        self.quant_conv = CausalConv3d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = CausalConv3d(latent, latent, 1)
        self.decoder = Decoder(self.config)

    def num_latent_frames(self, num_frames: int) -> int:
        """Return the number of latent frames of `num_frames` frames: num_frames / time_factor, rounded up."""
        return -(-num_frames // self.config.time_factor)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a clip of spatial latents.

        Args:
            x: [B, C, F, H, W]; zeros are added before the first frame up to a multiple of `time_factor`.

        Returns:
            mean and logvar of the posterior, each [B, C, T, H, W]; logvar lies in -30..20.
        """
        num_padding = -x.shape[2] % self.config.time_factor
        moments = self.quant_conv(self.encoder(F.pad(x, (0, 0, 0, 0, num_padding, 0))))
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """Decode latents to the clip of `num_frames` frames that they were encoded from.

        Args:
            z: [B, C, T, H, W].
            num_frames: frames of the clip; the decoded padding frames are dropped from the start.

        Returns:
            Spatial latents [B, C, num_frames, H, W].

        Raises:
            ValueError: T is not the number of latent frames of `num_frames` frames.
        """
        if num_frames < 1 or self.num_latent_frames(num_frames) != z.shape[2]:
            raise ValueError(
                f"temporal VAE: {num_frames} frames have {self.num_latent_frames(num_frames)} latent frames, "
                f"got {z.shape[2]}; pass the number of frames of the clip that was encoded"
            )
        x = self.decoder(self.post_quant_conv(z))
        return x[:, :, x.shape[2] - num_frames :]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode `x` and decode the mean; return reconstruction [B, C, F, H, W], mean and logvar."""
        mean, logvar = self.encode(x)
        return self.decode(mean, x.shape[2]), mean, logvar


def sample_posterior(mean: Tensor, logvar: Tensor, generator: torch.Generator | None) -> Tensor:
    """Sample from the Gaussian posterior, or return its mean if `generator` is None.

    The noise is drawn on the generator's device, so a CPU generator gives the same noise for a model on any device.
    """
    if generator is None:
        return mean
    noise = torch.randn(mean.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return mean + torch.exp(0.5 * logvar) * noise.to(mean)
