"""Load the three models of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from opensora_adacache.config.settings import ModelSettings, RunConfig, TextEncoderSettings, VaeSettings
from opensora_adacache.models import OpenSoraVAE, STDiT3, STDiT3Config, T5TextEncoder, checkpoint
from opensora_adacache.models.stdit3 import VARIANTS
from opensora_adacache.models.vae import SPATIAL_HUB_NAME
from opensora_adacache.text_features import TextFeatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opensora_adacache.pipeline import Pipeline


@dataclass(frozen=True)
class LoadedModels:
    """The models of a run on their device, and the features of its texts."""

    transformer: STDiT3
    vae: OpenSoraVAE
    features: TextFeatures
    device: torch.device

    def pipeline(self, config: RunConfig) -> Pipeline:
        """Return a pipeline for a run with these models; its cache, steps and prompts may be others."""
        from opensora_adacache.pipeline import Pipeline

        return Pipeline(config, self.transformer, self.vae, self.device)


def load_models(config: RunConfig, texts: Iterable[str], device: torch.device | None = None) -> LoadedModels:
    """Encode texts, free the text encoder, then load transformer and VAE; raises as `load_transformer` does.

    Args:
        config: of the run.
        texts: whose features are kept.
        device: None is CUDA where there is one.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = DTYPES[config.dtype]
    encoder = load_text_encoder(config.text_encoder, dtype, device)
    features = TextFeatures(encoder, texts)
    encoder.release()
    transformer = load_transformer(config.model, dtype, device)
    encoder.attach_null(transformer.y_embedder.y_embedding)
    return LoadedModels(transformer, load_vae(config.vae, dtype, device), features, device)


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_transformer(settings: ModelSettings, dtype: torch.dtype, device: torch.device) -> STDiT3:
    """Load the transformer and check that it is what the config says.

    Raises:
        OSError: the checkpoint is not there and the hub cannot give it.
        ValueError: it is corrupt, or of another structure than `settings` says.
    """
    path = Path(settings.from_pretrained)
    if path.is_file() and not (path.parent / checkpoint.CONFIG_NAME).is_file():
        model = _load_bare_weights(path, settings, dtype)
    else:
        model = STDiT3.from_pretrained(settings.from_pretrained, dtype, settings.backend, settings.exact_embeddings)
    expected: dict[str, object] = dict(VARIANTS.get(settings.type, {}))
    if settings.qk_norm is not None:
        expected["qk_norm"] = settings.qk_norm
    for name, value in expected.items():
        found = getattr(model.config, name)
        if found != value:
            raise ValueError(
                f"model '{settings.from_pretrained}' has {name} {found}, but the config wants {value} "
                f"(type {settings.type}); correct the config or choose another checkpoint"
            )
    if settings.compile:
        model.compile_blocks()
    return model.to(device)


def _load_bare_weights(path: Path, settings: ModelSettings, dtype: torch.dtype) -> STDiT3:
    """Load a file of weights without a config.json, such as training writes; its structure comes from the config."""
    structure: Mapping[str, Any] | None = VARIANTS.get(settings.type)
    if structure is None:
        raise ValueError(
            f"'{path}' has no {checkpoint.CONFIG_NAME} beside it; add one, or set model.type to {' or '.join(VARIANTS)}"
        )
    config = STDiT3Config(**structure, qk_norm=settings.qk_norm is not False)
    with torch.device("meta"):
        model = STDiT3(config, settings.backend, settings.exact_embeddings)
    return checkpoint.load_into(model, checkpoint.read_state_dict(path), source=path, dtype=dtype).eval()


def load_vae(settings: VaeSettings, dtype: torch.dtype, device: torch.device) -> OpenSoraVAE:
    """Load the autoencoder; raises as `load_transformer` does."""
    vae = OpenSoraVAE.from_pretrained(
        settings.from_pretrained,
        dtype=dtype,
        micro_frame_size=settings.micro_frame_size,
        micro_batch_size=settings.micro_batch_size,
        spatial_vae=settings.spatial_vae or SPATIAL_HUB_NAME,
    )
    return vae.to(device).eval()


def load_text_encoder(settings: TextEncoderSettings, dtype: torch.dtype, device: torch.device) -> T5TextEncoder:
    """Load the text encoder in its own dtype, or in `dtype` (that of the run); raises as `load_transformer` does."""
    return T5TextEncoder.from_pretrained(
        settings.from_pretrained,
        model_max_length=settings.model_max_length,
        dtype=DTYPES[settings.dtype] if settings.dtype else dtype,
        device=device,
    )
