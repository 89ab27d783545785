"""Trains the two parts of the bundled model's VAE: first on frames, then on clips through both parts.

The spatial part learns from single frames. The temporal part learns from clips to restore the spatial latents and the
frames that the decoder produces from them. The decoder is trained further along with it, so that it compensates for
what the temporal part loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from opensora_adacache.models.temporal_vae import TemporalVAE, TemporalVAEConfig
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE, OpenSoraVAEConfig, SpatialVAE
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer, to_device
from opensora_adacache.scenes.stage import Budget, Stage, learning_rate, set_rate
from opensora_adacache.scenes.words import NUM_FRAMES

TEMPORAL = TemporalVAEConfig(
    filters=32,
    num_res_blocks=1,
    channel_multipliers=(1, 2, 2, 2),
    temporal_downsample=(False, True, True),
    latent_channels=4,
    num_groups=8,
)
STRUCTURE = OpenSoraVAEConfig(
    temporal=TEMPORAL, block_out_channels=(16, 32, 64, 96), layers_per_block=1, norm_num_groups=8
)


@dataclass(frozen=True)
class SpatialRecipe:
    """Rates and weights of the spatial stage. `object_weight` is the additional weight of object pixels.

    Up to the fraction `crops_until` of the budget, the stage trains on crops around the objects, whose size is `crop`
    as a fraction of the width, from `crop_frames` frames of each clip: colours are learned many times faster if the
    background does not outweigh them. After that it trains on whole frames, because their GroupNorm statistics differ
    from those of crops.
    """

    clips: int = 64
    frames: int = 2
    crop: float = 0.5
    crop_frames: int = 4
    crops_until: float = 0.4
    learning_rate: float = 2e-3
    warm_up: int = 50
    decay_from: float = 0.3
    object_weight: float = 4.0
    kl_weight: float = 1e-6
    seed: int = 0


@dataclass(frozen=True)
class TemporalRecipe:
    """Rates and weights of the temporal stage; `frames` frames of each clip are decoded to pixels.

    Latents get noise of up to `noise` times their standard deviation, because those of the transformer will not be
    perfect either.
    """

    clips: int = 32
    frames: int = 5
    learning_rate: float = 2e-3
    decoder_share: float = 0.3
    warm_up: int = 50
    decay_from: float = 0.3
    object_weight: float = 4.0
    pixel_weight: float = 2.0
    kl_weight: float = 3e-6
    noise: float = 0.1
    seed: int = 0


def build_spatial() -> Any:
    """Return the spatial part (a diffusers ``AutoencoderKL``), untrained."""
    return SpatialVAE(STRUCTURE, micro_batch_size=None).module


class Halved(nn.Module):
    """If `enabled`, calls methods of a module in bfloat16 while its weights stay in float32.

    Autocast would leave the group norms, which are most of the work here, in float32.
    """

    def __init__(self, module: nn.Module, enabled: bool) -> None:
        super().__init__()
        self.module = module
        self.enabled = enabled

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self.module, method)(*args)

    def call(self, method: str, *args: Any) -> Any:
        """Return ``module.method(*args)`` with floating-point tensors among `args` cast."""
        if not self.enabled:
            return self(method, *args)
        cast = {
            name: value.bfloat16() if value.is_floating_point() else value for name, value in self.named_parameters()
        }
        args = tuple(a.bfloat16() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        return functional_call(self, cast, (method, *args))


@contextmanager
def tuned(device: torch.device) -> Iterator[None]:
    """On a GPU, let cuDNN try several kernels for each convolution size and keep the fastest.

    For convolutions over clips in bfloat16, its default choice can be many times slower; for frames it is good.
    """
    usual = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda"
    torch.backends.cudnn.benchmark_limit = 4
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = usual


def pixel_loss(decoded: Tensor, pixels: Tensor, covered: Tensor, object_weight: float) -> Tensor:
    """Return weighted L1 + L2 of frames [B, 3, H, W]; objects and their edges weigh more than the background."""
    weight = 1 + object_weight * functional.max_pool2d(covered, 5, 1, 2)
    error = decoded.float() - pixels
    return (weight / weight.mean() * (error.abs() + error.square())).mean()


def train_spatial(
    recipe: SpatialRecipe,
    folder: Path,
    budget: Budget,
    device: torch.device,
    size: int,
    stop_after: int | None = None,
) -> Any:
    """Train or continue to train the spatial part; return it in evaluation mode with normalized latents."""
    torch.manual_seed(recipe.seed)
    vae = build_spatial().to(device).train()
    optimizer = torch.optim.AdamW(
        vae.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=True
    )
    stage = Stage(folder, "spatial", budget, {"model": vae, "optimizer": optimizer}, stop_after=stop_after)
    stage.resume(device)
    halved, render = Halved(vae, device.type == "cuda"), Renderer(device, size)
    for step in stage:
        set_rate(
            optimizer, learning_rate(recipe.learning_rate, stage.fraction, step, recipe.warm_up, recipe.decay_from)
        )
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        pixels, covered = draw_frames(recipe, step, render, crops=stage.fraction < recipe.crops_until)
        posterior = halved.call("encode", pixels).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        decoded = halved.call("decode", latents).sample
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
        loss = pixel_loss(decoded, pixels, covered, recipe.object_weight) + recipe.kl_weight * divergence
        descend(loss, vae, optimizer)
        stage.note(loss)
    vae.eval().requires_grad_(False)
    if stop_after is None:
        clips, _ = draw_clips(np.random.default_rng([recipe.seed, 1 << 40]), 16, render)
        normalise(vae, encode_frames(Halved(vae, False), clips))
    return vae


def draw_frames(recipe: SpatialRecipe, step: int, render: Renderer, *, crops: bool) -> tuple[Tensor, Tensor]:
    """Return pixels [B, 3, H, W] and coverage [B, 1, H, W] for one step, of whole frames or of crops around objects."""
    rng = np.random.default_rng([recipe.seed, step])
    specs = draw_specs(rng, recipe.clips)
    frames = recipe.crop_frames if crops else recipe.frames
    chosen = rng.integers(NUM_FRAMES, size=(recipe.clips, frames))
    scenes = place(specs, rng).frames(chosen)
    pixels, covered = (part.flatten(0, 1) for part in render(scenes))
    if not crops:
        return pixels, covered
    width = int(recipe.crop * render.size) // 8 * 8
    slot = rng.integers(specs.count)
    rows = np.arange(recipe.clips)
    centre = np.stack([scenes.y[rows, slot], scenes.x[rows, slot]], -1).reshape(-1, 2) * render.scale
    corner = centre - width / 2 + rng.uniform(-0.2, 0.2, centre.shape) * width
    first = to_device(np.clip(corner, 0, render.size - width).astype(int), render.device)
    span = torch.arange(width, device=render.device)
    row, column = first[:, 0, None] + span, first[:, 1, None] + span
    picked = torch.arange(len(first), device=render.device)[:, None, None]
    window = (picked, slice(None), row[:, :, None], column[:, None, :])
    return tuple(part[window].permute(0, 3, 1, 2).contiguous() for part in (pixels, covered))  # type: ignore[return-value]


def draw_clips(rng: np.random.Generator, count: int, render: Renderer) -> tuple[Tensor, Tensor]:
    """Return pixels [B, F, 3, H, W] and coverage [B, F, 1, H, W] of clips from the training part."""
    return render(place(draw_specs(rng, count), rng))


def descend(loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take one optimizer step on a loss; the norm of the gradient is clipped to 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], 1.0)
    optimizer.step()


@torch.no_grad()
def encode_frames(vae: Halved, clips: Tensor) -> Tensor:
    """Return scaled spatial latents [B, 4, F, h, w], float32, of clips [B, F, 3, H, W]."""
    mean = vae.call("encode", clips.flatten(0, 1)).latent_dist.mean.float() * SPATIAL_SCALE
    return mean.unflatten(0, clips.shape[:2]).transpose(1, 2)


@torch.no_grad()
def normalise(vae: Any, latents: Tensor) -> None:
    """Fold a normalization into the spatial part so that its scaled latents have mean 0 and standard deviation 1.

    The 1x1 convolutions next to the latents absorb it exactly.

    Args:
        vae: changed in place.
        latents: scaled latents of some clips, with channels on axis 1.
    """
    axes = [0, *range(2, latents.dim())]
    mean, deviation = latents.mean(axes), latents.std(axes)
    count = len(mean)
    # New latent = (old - mean / scale) / deviation.
    vae.quant_conv.bias[:count] -= mean / SPATIAL_SCALE
    vae.quant_conv.bias[:count] /= deviation
    vae.quant_conv.weight[:count] /= deviation[:, None, None, None]
    vae.quant_conv.bias[count:] -= 2 * deviation.log()
    weight = vae.post_quant_conv.weight
    vae.post_quant_conv.bias += weight[:, :, 0, 0] @ (mean / SPATIAL_SCALE)
    weight *= deviation[None, :, None, None]


def train_temporal(
    recipe: TemporalRecipe,
    spatial: Any,
    folder: Path,
    budget: Budget,
    device: torch.device,
    size: int,
    stop_after: int | None = None,
) -> OpenSoraVAE:
    """Train or continue to train the temporal part and the frame decoder; return the whole VAE for inference."""
    torch.manual_seed(recipe.seed)
    temporal = TemporalVAE(TEMPORAL).to(device).train()
    learners = nn.ModuleDict(
        {"temporal": temporal, "decoder": spatial.decoder, "post": spatial.post_quant_conv}
    ).requires_grad_(True)
    decoder = [*spatial.decoder.parameters(), *spatial.post_quant_conv.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": [*temporal.parameters()]},
        {"params": decoder, "share": recipe.decoder_share},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=1e-4,
        fused=True,
    )
    stage = Stage(folder, "temporal", budget, {"model": learners, "optimizer": optimizer}, stop_after=stop_after)
    stage.resume(device)
    fast = device.type == "cuda"
    frames, clips_half, render = Halved(spatial, fast), Halved(temporal, fast), Renderer(device, size)
    with tuned(device):
        for step in stage:
            set_rate(
                optimizer, learning_rate(recipe.learning_rate, stage.fraction, step, recipe.warm_up, recipe.decay_from)
            )
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            rng = np.random.default_rng([recipe.seed, 1, step])
            pixels, covered = draw_clips(rng, recipe.clips, render)
            latents = encode_frames(frames, pixels)
            mean, logvar = (part.float() for part in clips_half.call("encode", latents))
            spread = recipe.noise * torch.rand(len(mean), 1, 1, 1, 1, device=device) * mean.detach().std()
            sample = mean + (torch.exp(0.5 * logvar) + spread) * torch.randn_like(mean)
            rebuilt = clips_half.call("decode", sample, NUM_FRAMES).float()
            error = rebuilt - latents
            divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3, 4)).mean()
            chosen = to_device(np.sort(rng.permutation(NUM_FRAMES)[: recipe.frames]), device)
            few = rebuilt.index_select(2, chosen).transpose(1, 2).flatten(0, 1)
            decoded = frames.call("decode", few / SPATIAL_SCALE).sample
            wanted, over = pixels.index_select(1, chosen).flatten(0, 1), covered.index_select(1, chosen).flatten(0, 1)
            loss = error.abs().mean() + error.square().mean() + recipe.kl_weight * divergence
            loss = loss + recipe.pixel_weight * pixel_loss(decoded, wanted, over, recipe.object_weight)
            descend(loss, learners, optimizer)
            stage.note(loss)
    learners.eval().requires_grad_(False)
    return assemble(spatial, temporal, render)


@torch.no_grad()
def assemble(spatial: Any, temporal: TemporalVAE, render: Renderer) -> OpenSoraVAE:
    """Join the two parts and store the mean and deviation of their latents in the buffers `shift` and `scale`."""
    clips, _ = draw_clips(np.random.default_rng([0, 1 << 41]), 64, render)
    raw = torch.cat(
        [temporal.encode(encode_frames(Halved(spatial, False), part))[0].float() for part in clips.split(16)]
    )
    axes = (0, 2, 3, 4)
    config = OpenSoraVAEConfig(
        temporal=TEMPORAL,
        block_out_channels=STRUCTURE.block_out_channels,
        layers_per_block=STRUCTURE.layers_per_block,
        norm_num_groups=STRUCTURE.norm_num_groups,
        shift=tuple(raw.mean(axes).tolist()),
        scale=tuple(raw.std(axes).tolist()),
    )
    vae = OpenSoraVAE(config).to(raw.device)
    vae.spatial_vae.module.load_state_dict(spatial.state_dict())
    vae.temporal_vae.load_state_dict(temporal.state_dict())
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode_clips(vae: OpenSoraVAE, clips: Tensor) -> Tensor:
    """Return normalized float32 latents [B, 4, T, h, w] of clips [B, F, 3, H, W] in one pass; bfloat16 on a GPU."""
    fast = clips.device.type == "cuda"
    latents = encode_frames(Halved(vae.spatial_vae.module, fast), clips)
    mean = Halved(vae.temporal_vae, fast).call("encode", latents)[0].float()
    return (mean - vae.shift) / vae.scale
