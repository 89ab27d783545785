"""Load Open-Sora's models for a run. Runs, benchmarks and calibration all use this loader (see `models.load_run`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from opensora_adacache.adapters.stdit3.split import split_stdit3
from opensora_adacache.caching.team import Team
from opensora_adacache.config.settings import ModelSettings, OpenSoraConfig, RunConfig, TextEncoderSettings, VaeSettings
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.generation.dtypes import DTYPES
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.maker import OpenSoraMaker
from opensora_adacache.generation.pipeline import Pipeline
from opensora_adacache.generation.text_features import NoTextEncoder, TextFeatures
from opensora_adacache.models import OpenSoraVAE, STDiT3, STDiT3Config, T5TextEncoder, checkpoint
from opensora_adacache.models.quantization import check_quantization, quantize_linears
from opensora_adacache.models.structure import VARIANTS
from opensora_adacache.models.vae import SPATIAL_HUB_NAME
from opensora_adacache.parallel.team import DeviceTeam

# Latents a side of the tiles that `vae.tiling` decodes: 512 pixels, the size of a picture the spatial part is made for.
TILE_SIZE = 64


@dataclass(frozen=True)
class LoadedModels:
    """The models of a run on their device.

    Attributes:
        transformer: the transformer, whose null text features the text encoder returns.
        vae: the autoencoder.
        text_encoder: the text encoder, in the first process of a team. Its weights were freed, unless `load_models`
            kept them.
        features: features of the texts that were encoded before the weights were freed.
        encodes: whether the weights were kept, so that texts are encoded when their features are needed.
        cut_texts: text -> the end of it that the text encoder does not read, for texts that are too long.
        device: device of the models.
        loading_seconds: seconds spent reading the weights.
        encoding_seconds: seconds spent encoding `features`.
        team: the processes that make a video together.
    """

    transformer: STDiT3
    vae: OpenSoraVAE
    text_encoder: T5TextEncoder | NoTextEncoder
    features: TextFeatures
    encodes: bool
    cut_texts: Mapping[str, str]
    device: torch.device
    loading_seconds: float
    encoding_seconds: float
    team: Team

    def pipeline(self, config: OpenSoraConfig) -> Pipeline:
        """Return a pipeline with these models for a run, which may have a different cache, steps and prompts."""
        return Pipeline(config, self.transformer, self.vae, self.device, self.team)

    def maker(self, config: RunConfig) -> OpenSoraMaker:
        """Return a maker of clips for a run, which may have a different cache, steps and prompts."""
        if not isinstance(config, OpenSoraConfig):
            raise TypeError(f"expected an OpenSoraConfig, got {type(config).__name__}")
        return OpenSoraMaker(self.pipeline(config), self.features_of)

    def warnings_of(self, job: VideoJob) -> list[str]:
        """Return lines about what the text encoder does not read of the texts of a job."""
        if not isinstance(self.text_encoder, T5TextEncoder):  # the process that has one warns
            return []
        limit = self.text_encoder.model_max_length
        cut = dict.fromkeys(self.cut_texts[text] for text in job.texts if text in self.cut_texts)
        return [
            f"prompt {job.index} is longer than {limit} tokens; the model does not see its end '{lost}'" for lost in cut
        ]

    def features_of(self, texts: Iterable[str]) -> TextFeatures:
        """Return the features of texts. They are encoded now if the text encoder was kept, else looked up."""
        return TextFeatures(self.text_encoder, texts, self.team) if self.encodes else self.features


def load_models(
    config: OpenSoraConfig,
    texts: Iterable[str],
    device: torch.device | None = None,
    *,
    keep_text_encoder: bool = False,
    say: Callable[[str], object] = lambda line: None,
    team: Team | None = None,
) -> LoadedModels:
    """Load text encoder, transformer and VAE. Raises the errors of `load_transformer`.

    Args:
        config: config of the run.
        texts: texts of all its prompts. They are encoded first and the text encoder is freed before the transformer is
            loaded, so the two are never in memory together.
        device: device for the models. None is CUDA if available, else the CPU.
        keep_text_encoder: whether to keep the text encoder and encode nothing yet; see `LoadedModels.features_of`.
        say: function that is called with one line (model, source, bytes) before each model is loaded.
        team: the processes that make a video together, as ``config.parallel`` says. None is this process alone.
    """
    team = team or Team()
    if config.parallel.num_devices != team.size:
        raise ConfigError(
            f"the config splits a video between {config.parallel.num_devices} devices, which only inference.py does; "
            "set parallel.sequence=1 and parallel.guidance=1 here"
        )
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, texts = DTYPES[config.dtype], list(dict.fromkeys(texts))
    for section in (config.model, config.text_encoder):
        if section.quantize:
            check_quantization(section.quantize, dtype, device)
    begin = time.perf_counter()
    encoder: T5TextEncoder | NoTextEncoder = NoTextEncoder()
    cut_texts: dict[str, str] = {}
    if team.leads:
        say(f"loading the text encoder from {describe_source(config.text_encoder)}")
        encoder = load_text_encoder(config.text_encoder, dtype, device)
        cut_texts = {text: lost for text in texts if (lost := encoder.lost_text(text))}
    start_of_encoding = time.perf_counter()
    features = TextFeatures(encoder, () if keep_text_encoder else texts, team)
    encoding_seconds = time.perf_counter() - start_of_encoding
    if not keep_text_encoder:
        encoder.release()
    say(f"loading the transformer from {describe_source(config.model)}")
    transformer = load_transformer(config.model, dtype, device)
    encoder.attach_null(transformer.y_embedder.y_embedding)
    if isinstance(team, DeviceTeam):
        split_stdit3(transformer, team)
    say(f"loading the VAE from {describe_source(config.vae)}")
    vae = load_vae(config.vae, dtype, device)
    return LoadedModels(
        transformer=transformer,
        vae=vae,
        text_encoder=encoder,
        features=features,
        encodes=keep_text_encoder,
        cut_texts=cut_texts,
        device=device,
        loading_seconds=time.perf_counter() - begin - encoding_seconds,
        encoding_seconds=encoding_seconds,
        team=team,
    )


def describe_source(settings: ModelSettings | VaeSettings | TextEncoderSettings) -> str:
    """Return where a checkpoint is and how large its weights are, or that they must be downloaded first."""
    size = checkpoint.weight_bytes(settings.from_pretrained, checkpoint.HubOptions(**hub_options(settings)))
    return f"'{settings.from_pretrained}' ({'it is downloaded first' if size is None else format_bytes(size)})"


def format_bytes(size: int) -> str:
    """Return a number of bytes with three significant digits.

    >>> format_bytes(512), format_bytes(44_560_000), format_bytes(9_524_000_000)
    ('512 B', '44.6 MB', '9.52 GB')
    """
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def load_transformer(settings: ModelSettings, dtype: torch.dtype, device: torch.device) -> STDiT3:
    """Load the transformer and check it against the config.

    Raises:
        OSError: the checkpoint is missing and cannot be downloaded from the hub.
        ValueError: the checkpoint is corrupt, its structure differs from `settings`, or it cannot be quantised that
            way.
    """
    path = Path(settings.from_pretrained)
    if path.is_file() and not (path.parent / checkpoint.CONFIG_NAME).is_file():
        model = _load_bare_weights(path, settings, dtype)
    else:
        model = STDiT3.from_pretrained(
            settings.from_pretrained, dtype, settings.backend, settings.exact_embeddings, **hub_options(settings)
        )
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
    if settings.quantize:
        for block in model.blocks():
            quantize_linears(block, settings.quantize, device)
    if settings.compile:
        model.compile_blocks()
    return model.to(device)


def hub_options(settings: ModelSettings | VaeSettings | TextEncoderSettings) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that say how to take a model from the hub."""
    return {name: getattr(settings, name) for name in ("revision", "cache_dir", "local_files_only")}


def _load_bare_weights(path: Path, settings: ModelSettings, dtype: torch.dtype) -> STDiT3:
    """Load a weight file without a config.json, such as training writes. Its structure comes from the config."""
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
    """Load the autoencoder. Raises the errors of `load_transformer`."""
    vae = OpenSoraVAE.from_pretrained(
        settings.from_pretrained,
        dtype=dtype,
        micro_frame_size=settings.micro_frame_size,
        micro_batch_size=settings.micro_batch_size,
        spatial_vae=settings.spatial_vae or SPATIAL_HUB_NAME,
        tile_size=TILE_SIZE if settings.tiling else None,
        **hub_options(settings),
    )
    if settings.channels_last:
        vae.use_channels_last()
    if settings.compile:
        vae.compile_decoder()
    return vae.to(device).eval()


def load_text_encoder(settings: TextEncoderSettings, dtype: torch.dtype, device: torch.device) -> T5TextEncoder:
    """Load the text encoder in its own dtype, or in `dtype` (that of the run). Raises as `load_transformer` does."""
    encoder = T5TextEncoder.from_pretrained(
        settings.from_pretrained,
        model_max_length=settings.model_max_length,
        dtype=DTYPES[settings.dtype] if settings.dtype else dtype,
        device="cpu" if settings.quantize else device,  # the device gets quantised weights only
        **hub_options(settings),
    )
    if settings.quantize:
        encoder.quantize(settings.quantize, device)
    return encoder
