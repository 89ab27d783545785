"""Registers our models under the names of the upstream `opensora` package, so that upstream's scripts build them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from opensora_adacache.adapters.attach import apply_cache
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.models import OpenSoraVAE, STDiT3, STDiT3Config, T5TextEncoder

TRANSFORMER_NAMES = ("STDiT3-XL/2", "STDiT3-3B/2", "STDiT3")
VAE_NAME, TEXT_ENCODER_NAME = "OpenSoraVAE_V1_2", "t5"


def register(cache: CacheConfig | None = None, num_sampling_steps: int | None = None) -> None:
    """Register our transformer, VAE and text encoder in place of upstream's.

    Args:
        cache: settings of a cache to attach to each transformer that is built.
        num_sampling_steps: number of steps of the sampler; required with a cache.

    Raises:
        ImportError: the `opensora` package, or something that it imports, is not installed.
        ValueError: a cache is given without a number of steps.
    """
    from opensora.registry import MODELS

    if cache is not None and num_sampling_steps is None:
        raise ValueError("register expects num_sampling_steps with a cache, got None: pass the sampler's step count")

    def transformer(**settings: Any) -> STDiT3:
        model = build_transformer(**settings)
        if cache is not None and num_sampling_steps is not None:
            apply_cache(model, cache, num_sampling_steps)
        return model

    MODELS.import_from_location()  # upstream's models first: registered later, they would replace ours
    for name in TRANSFORMER_NAMES:
        MODELS.register_module(name, module=transformer, force=True)
    MODELS.register_module(VAE_NAME, module=build_vae, force=True)
    MODELS.register_module(TEXT_ENCODER_NAME, module=build_text_encoder, force=True)


def build_transformer(from_pretrained: str | None = None, **settings: Any) -> STDiT3:
    """Build our STDiT3 from upstream's settings; the structure stored in a checkpoint takes precedence."""
    if settings.get("enable_sequence_parallelism"):
        raise ValueError("our STDiT3 does not support upstream's sequence parallelism: run its script on one process")
    if from_pretrained is not None:
        return STDiT3.from_pretrained(from_pretrained)
    return STDiT3(STDiT3Config.from_dict(settings))


def build_vae(
    from_pretrained: str, micro_frame_size: int | None = 17, micro_batch_size: int = 4, **_: Any
) -> nn.Module:
    """Load our VAE with the method names that upstream's scripts call."""
    return _VAE.from_pretrained(from_pretrained, micro_frame_size=micro_frame_size, micro_batch_size=micro_batch_size)


def build_text_encoder(
    from_pretrained: str, model_max_length: int = 300, device: str = "cpu", **_: Any
) -> T5TextEncoder:
    """Load our T5 with the attributes that upstream's scripts set and read."""
    return _TextEncoder.from_pretrained(from_pretrained, model_max_length=model_max_length, device=device)


class _VAE(OpenSoraVAE):
    def get_latent_size(self, input_size: Sequence[int]) -> tuple[int, int, int]:
        """Return `latent_size`."""
        return self.latent_size(input_size)


class _TextEncoder(T5TextEncoder):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "y_embedder":  # upstream's script sets it for the null prompt of guidance
            self.attach_null(value.y_embedding)
        else:
            super().__setattr__(name, value)
