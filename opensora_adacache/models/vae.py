"""The Open-Sora VAE 1.2: an image VAE on every frame, followed by a temporal VAE on the latents of the frames.

Letters: B videos, F frames, H and W pixels, T latent frames, h and w latent height and width.

Parameter names match the published checkpoint ``hpcai-tech/OpenSora-VAE-v1.2``: ``spatial_vae.module.*`` (a diffusers
`AutoencoderKL`), ``temporal_vae.*``, and the buffers ``shift`` and ``scale``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from opensora_adacache.errors.family import CheckpointError
from opensora_adacache.errors.shown import shown
from opensora_adacache.models import checkpoint
from opensora_adacache.models.config_json import build_structure, building
from opensora_adacache.models.imports import quiet_imports
from opensora_adacache.models.temporal_vae import TemporalVAE, TemporalVAEConfig, sample_posterior
from opensora_adacache.models.tiling import decode_tiles

SPATIAL_SCALE = 0.18215
SPATIAL_PREFIX = "spatial_vae.module."
SPATIAL_HUB_NAME = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
SPATIAL_SUBFOLDER = "vae"


@dataclass(frozen=True)
class OpenSoraVAEConfig:
    """Structure of an `OpenSoraVAE`; the defaults are those of the published model.

    Args:
        temporal: structure of the temporal part.
        block_out_channels: channels of each level of the spatial part; each transition between levels halves H and W.
        layers_per_block: residual blocks per level of the spatial part.
        norm_num_groups: groups of the spatial part's GroupNorms; must divide the channels of every level.
        shift: mean of each latent channel, which is subtracted from the latents.
        scale: standard deviation of each latent channel, by which the latents are then divided.

    Raises:
        ValueError: the numbers do not fit together.
    """

    temporal: TemporalVAEConfig = field(default_factory=TemporalVAEConfig)
    block_out_channels: Sequence[int] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    shift: Sequence[float] = (-0.10, 0.34, 0.27, 0.98)
    scale: Sequence[float] = (3.85, 2.32, 2.33, 3.06)

    def __post_init__(self) -> None:
        num_channels = self.temporal.latent_channels
        for name in ("shift", "scale"):
            value = getattr(self, name)
            # A single number applies to all channels.
            value = (float(value),) * num_channels if isinstance(value, int | float) else tuple(map(float, value))
            if len(value) != num_channels:
                raise ValueError(f"VAE: expected {num_channels} values of {name}, one per channel, got {len(value)}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        if not self.block_out_channels or any(n < 1 or n % self.norm_num_groups for n in self.block_out_channels):
            raise ValueError(
                f"VAE: expected block_out_channels that are multiples of norm_num_groups={self.norm_num_groups}, "
                f"got {list(self.block_out_channels)}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OpenSoraVAEConfig:
        """Read the structure from a ``config.json``.

        As in the published file, the parts are described under ``vae_2d`` and ``vae_temporal``. That file names only
        their classes; values that it omits default to the published structure. Keys that concern loading, training or
        memory (``from_pretrained``, ``freeze_vae_2d``, ``cal_loss``, ``micro_frame_size``, …) are ignored.
        """
        spatial = _pick(_section(values, "vae_2d"), ("block_out_channels", "layers_per_block", "norm_num_groups"))
        temporal = build_structure(TemporalVAEConfig, _section(values, "vae_temporal"))
        return build_structure(cls, {"temporal": temporal, **spatial, **_pick(values, ("shift", "scale"))})

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a ``config.json``."""
        return {
            "model_type": "VideoAutoencoderPipeline",
            "vae_2d": {
                "type": "VideoAutoencoderKL",
                "block_out_channels": list(self.block_out_channels),
                "layers_per_block": self.layers_per_block,
                "norm_num_groups": self.norm_num_groups,
            },
            "vae_temporal": {"type": "VAE_Temporal", **asdict(self.temporal)},
            "shift": list(self.shift),
            "scale": list(self.scale),
        }


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise CheckpointError(f"{name} in config.json must be an object, got {shown(section)}")
    return section


def _pick(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


class SpatialVAE(nn.Module):
    """Encodes and decodes single frames, a few at a time; latents are scaled by 0.18215.

    Everything inside, attention included, is diffusers' `AutoencoderKL`.
    """

    def __init__(self, config: OpenSoraVAEConfig, micro_batch_size: int | None, tile_size: int | None = None) -> None:
        super().__init__()
        with quiet_imports():
            from diffusers import AutoencoderKL

        num_levels = len(config.block_out_channels)
        self.factor = 2 ** (num_levels - 1)
        self.micro_batch_size = micro_batch_size
        self.tile_size = tile_size
        self.module: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * num_levels,
            up_block_types=("UpDecoderBlock2D",) * num_levels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.temporal.latent_channels,
            norm_num_groups=config.norm_num_groups,
            scaling_factor=SPATIAL_SCALE,
        )

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode frames [B, 3, F, H, W] to latents [B, 4, F, h, w]; with a generator, sample from the posterior."""

        def encode_frames(frames: Tensor) -> Tensor:
            posterior = self.module.encode(frames).latent_dist
            return sample_posterior(posterior.mean, posterior.logvar, generator) * SPATIAL_SCALE

        return self._by_frames(encode_frames, x)

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents [B, 4, F, h, w] to frames [B, 3, F, H, W]."""

        def decode_frames(frames: Tensor) -> Tensor:
            return self.module.decode(frames / SPATIAL_SCALE).sample

        def decode_by_tiles(frames: Tensor) -> Tensor:
            size = self.tile_size or max(frames.shape[-2:])
            return decode_tiles(decode_frames, frames, size, max(size // 4, 1), self.factor)

        return self._by_frames(decode_by_tiles, z)

    def _by_frames(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        frames = rearrange(x, "b c f h w -> (b f) c h w")
        done = torch.cat([function(part) for part in frames.split(self.micro_batch_size or len(frames))])
        return rearrange(done, "(b f) c h w -> b c f h w", b=x.shape[0])


class OpenSoraVAE(nn.Module):
    """Turns videos into normalized latents and back.

    A video is cut into chunks of `micro_frame_size` frames (17 frames are 5 latents). Each chunk is encoded and decoded
    separately, without overlap; inside a chunk nothing depends on later frames. Each video of a batch is processed
    alone, so that its result does not depend on the batch.

    Args:
        config: structure of the VAE.
        micro_frame_size: frames per chunk; None for the whole video at once. The published model was trained with
            chunks of 17 frames.
        micro_batch_size: frames that the spatial part processes at a time; None for all. Fewer take less memory.
        tile_size: decode pictures with more latents per side in tiles of this size; neighbours share a quarter and are
            blended linearly. None decodes whole pictures. Tiles bound the memory of the spatial part. Inside a tile,
            group norms and attention see that tile alone, so colours can shift compared with whole pictures
            (docs/results/vae_decoding.md). The temporal part and the encoder process whole pictures.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        config: OpenSoraVAEConfig,
        micro_frame_size: int | None = 17,
        micro_batch_size: int | None = 4,
        tile_size: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"micro_frame_size": micro_frame_size, "micro_batch_size": micro_batch_size, "tile_size": tile_size}
        for name, size in sizes.items():
            least = 2 if name == "tile_size" else 1
            if size is not None and size < least:
                raise ValueError(f"VAE: {name} must be at least {least}, or None for no limit; got {size}")
        self.config = config
        self.micro_frame_size = micro_frame_size
        self.spatial_vae = SpatialVAE(config, micro_batch_size, tile_size)
        self.temporal_vae = TemporalVAE(config.temporal)
        for name in ("shift", "scale"):
            self.register_buffer(name, torch.tensor(getattr(config, name)).reshape(1, -1, 1, 1, 1))

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_name: str | Path,
        dtype: torch.dtype | None = None,
        micro_frame_size: int | None = 17,
        micro_batch_size: int | None = 4,
        spatial_vae: str | Path = SPATIAL_HUB_NAME,
        tile_size: int | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> OpenSoraVAE:
        """Load from a local folder (config.json + safetensors or .pt) or a hub name.

        Weights are read directly into place; nothing is initialized first. They do not require gradients.

        Args:
            folder_or_hub_name: the checkpoint; published: ``hpcai-tech/OpenSora-VAE-v1.2``.
            dtype: dtype to cast the weights to; None keeps the file's.
            micro_frame_size: frames per chunk. As in the reference implementation, this overrides config.json.
            micro_batch_size: frames that the spatial part processes at a time.
            spatial_vae: source of the spatial part if the checkpoint has none: a hub name, or a local folder of a
                diffusers `AutoencoderKL` or of a pipeline with a ``vae/`` folder. Its config.json then defines its
                structure.
            tile_size: number of latents per side that the spatial part decodes at a time.
            revision: of the checkpoint; see `checkpoint.HubOptions`.
            cache_dir: for both parts; see `checkpoint.HubOptions`.
            local_files_only: for both parts; see `checkpoint.HubOptions`.

        Raises:
            OSError: a name is neither a folder nor reachable on the hub.
            ValueError: a file is corrupt, or its keys or shapes do not fit.
        """
        path = checkpoint.resolve(folder_or_hub_name, hub=checkpoint.HubOptions(revision, cache_dir, local_files_only))
        values = checkpoint.read_config(path)
        state = checkpoint.read_state_dict(path)
        source = str(folder_or_hub_name)
        if not any(name.startswith(SPATIAL_PREFIX) for name in state):
            spatial_values, spatial_state = _read_spatial(
                spatial_vae, checkpoint.HubOptions(None, cache_dir, local_files_only)
            )
            values["vae_2d"] = spatial_values
            dtype = dtype or next(iter(state.values())).dtype  # otherwise the parts could differ
            state.update({SPATIAL_PREFIX + name: tensor for name, tensor in spatial_state.items()})
            source = f"{source} with the spatial part of {spatial_vae}"
        with building(path), torch.device("meta"):
            model = cls(OpenSoraVAEConfig.from_dict(values), micro_frame_size, micro_batch_size, tile_size)
        return checkpoint.load_into(model, state, source=source, dtype=dtype).eval().requires_grad_(False)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors."""
        checkpoint.save(folder, self, self.config.to_dict())

    @property
    def out_channels(self) -> int:
        """Channels of the latents."""
        return self.config.temporal.latent_channels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.scale.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.scale.device

    def latent_size(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Return (T, h, w) of a video of (F, H, W).

        A chunk of 17 frames has 5 latents, and the remaining frames have 1 latent per 4 frames, rounded up. h and w are
        H / 8 and W / 8 if published, rounded down, so a decoded video can be a few pixels smaller than the encoded one.
        """
        num_frames, height, width = size
        factor = self.spatial_vae.factor
        num_latents = sum(map(self.temporal_vae.num_latent_frames, self._chunk_lengths(num_frames)))
        return num_latents, height // factor, width // factor

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode videos.

        The reference implementation samples from the posteriors of the spatial and the temporal part with torch's
        global generator, also for reference images. Here the latents are the means of the posteriors, unless a
        generator is given: then both parts sample with it.

        Args:
            x: [B, 3, F, H, W] in -1..1; moved to the model's device and dtype.
            generator: generates the noise.

        Returns:
            Normalized latents [B, 4, T, h, w] in the model's dtype.
        """
        return torch.cat([self._encode_video(video, generator) for video in x.to(self.shift).split(1)])

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """Decode latents to videos of `num_frames` frames.

        Args:
            z: normalized latents [B, 4, T, h, w]; moved to the model's device and dtype.
            num_frames: F.

        Returns:
            [B, 3, F, H, W], approximately in -1..1 (not clamped), in the model's dtype.

        Raises:
            ValueError: T is not the number of latent frames of `num_frames` frames.
        """
        self._check_length(z, num_frames)
        return torch.cat([self._decode_video(latents, num_frames) for latents in z.to(self.shift).split(1)])

    def decode_frame(self, z: Tensor, num_frames: int, index: int) -> Tensor:
        """Decode one frame of each video, as `decode` does: the temporal part its chunk, the spatial part it alone.

        Args:
            z: see `decode`.
            num_frames: F.
            index: index of the frame, from 0.

        Returns:
            [B, 3, H, W], the frame of ``decode(z, num_frames)``.

        Raises:
            ValueError: see `decode`.
            IndexError: there is no such frame.
        """
        self._check_length(z, num_frames)
        if not 0 <= index < num_frames:
            raise IndexError(f"VAE: frame {index} of a video with {num_frames} frames does not exist")
        size, num_latents = self.micro_frame_size or num_frames, self.temporal_vae.num_latent_frames
        chunk, place = divmod(index, size)
        length = min(size, num_frames - chunk * size)
        z = z.to(self.shift)[:, :, chunk * num_latents(size) :][:, :, : num_latents(length)] * self.scale + self.shift
        frames = torch.cat([self.temporal_vae.decode(one, length)[:, :, [place]] for one in z.split(1)])
        return self.spatial_vae.decode(frames)[:, :, 0]

    def use_channels_last(self) -> OpenSoraVAE:
        """Lay the weights of convolutions out with channels last, which some GPUs prefer; return self."""
        self.spatial_vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.temporal_vae.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return self

    def compile_decoder(self, backend: str | Callable = "inductor") -> OpenSoraVAE:
        """Compile both decoders when they next run, one graph for each size of their input; return self.

        Args:
            backend: of torch.compile.
        """
        for decoder in (self.spatial_vae.module.decoder, self.temporal_vae.decoder):
            decoder.compile(fullgraph=True, dynamic=False, backend=backend)
        return self

    def _check_length(self, z: Tensor, num_frames: int) -> None:
        num_latents = self.latent_size((num_frames, 0, 0))[0]
        if num_frames < 1 or z.shape[2] != num_latents:
            raise ValueError(
                f"VAE: {num_frames} frames have {num_latents} latent frames, got {z.shape[2]}; "
                "pass the number of frames that the latents were made for"
            )

    def _encode_video(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        frames = self.spatial_vae.encode(x, generator)
        chunks = frames.split(list(self._chunk_lengths(x.shape[2])), dim=2)
        z = torch.cat([sample_posterior(*self.temporal_vae.encode(chunk), generator) for chunk in chunks], dim=2)
        return (z - self.shift) / self.scale

    def _decode_video(self, z: Tensor, num_frames: int) -> Tensor:
        lengths = list(self._chunk_lengths(num_frames))
        chunks = (z * self.scale + self.shift).split([self.temporal_vae.num_latent_frames(n) for n in lengths], dim=2)
        parts = zip(chunks, lengths, strict=True)
        return self.spatial_vae.decode(torch.cat([self.temporal_vae.decode(*part) for part in parts], dim=2))

    def _chunk_lengths(self, num_frames: int) -> Iterator[int]:
        size = self.micro_frame_size or num_frames
        for start in range(0, num_frames, size):
            yield min(size, num_frames - start)


def _read_spatial(
    folder_or_hub_name: str | Path, hub: checkpoint.HubOptions
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read config.json and weights of a diffusers `AutoencoderKL` that is stored separately from the temporal part."""
    local = Path(os.path.expanduser(folder_or_hub_name))
    is_local, has_subfolder = os.path.exists(local), os.path.isdir(local / SPATIAL_SUBFOLDER)
    subfolder = SPATIAL_SUBFOLDER if has_subfolder or not is_local else None
    try:
        path = checkpoint.resolve(folder_or_hub_name, subfolder=subfolder, hub=hub)
    except OSError as error:
        raise OSError(
            f"the VAE checkpoint has no spatial part, and the separate one cannot be loaded: {error}"
        ) from error
    return checkpoint.read_config(path), checkpoint.read_state_dict(path)
