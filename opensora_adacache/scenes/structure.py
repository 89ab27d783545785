"""The structures of the bundled model's VAE and transformer."""

from __future__ import annotations

from opensora_adacache.models.structure import STDiT3Config
from opensora_adacache.models.temporal_vae import TemporalVAEConfig
from opensora_adacache.models.vae import OpenSoraVAEConfig
from opensora_adacache.scenes.text import MAX_TOKENS, TEXT_CHANNELS
from opensora_adacache.scenes.words import BASE_SIZE

# Standard deviation of normalized latents. Neighbouring latents say nearly the same about a simple scene, so that with
# deviation 1 a clip would be decided within the first few of the sampler's evenly spaced timesteps.
DEVIATION = 0.5

VAE = OpenSoraVAEConfig(
    temporal=TemporalVAEConfig(
        filters=32,
        num_res_blocks=1,
        channel_multipliers=(1, 2, 2),
        temporal_downsample=(True, True),
        latent_channels=4,
        num_groups=8,
    ),
    block_out_channels=(16, 32, 64),
    layers_per_block=1,
    norm_num_groups=8,
)


def spatial_factor(structure: OpenSoraVAEConfig = VAE) -> int:
    """Return the pixels per latent along each side.

    >>> spatial_factor()
    4
    """
    return 2 ** (len(structure.block_out_channels) - 1)


# A patch covers 16 x 16 pixels.
TRANSFORMER = STDiT3Config(
    depth=6,
    hidden_size=192,
    num_heads=6,
    patch_size=(1, 16 // spatial_factor(), 16 // spatial_factor()),
    in_channels=VAE.temporal.latent_channels,
    caption_channels=TEXT_CHANNELS,
    model_max_length=MAX_TOKENS,
    input_sq_size=BASE_SIZE,
)
