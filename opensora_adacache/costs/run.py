"""Costs of the run that a config describes, with any policy, at any size and without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from opensora_adacache.caching.guidance.settings import active
from opensora_adacache.caching.sites import SiteCacheConfig
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.config.load import locate
from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.config.settings import ModelSettings, OpenSoraConfig, RunConfig
from opensora_adacache.costs.flops import NUM_GUIDANCE_ROWS, StepFlops, count_decoding, count_step, count_tokens
from opensora_adacache.costs.pipeline import count_pipeline_step

if TYPE_CHECKING:
    from opensora_adacache.models import OpenSoraVAE, STDiT3Config
    from opensora_adacache.models.vae import OpenSoraVAEConfig


BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class StepSize:
    """What a denoising step of one video works on, including guidance.

    Attributes:
        num_tokens: video tokens N of a batch row.
        num_text_tokens: text tokens of a batch row.
        num_rows: batch rows of a step.
        hidden_size: channels C of a token.
        depth: number of layers.
        bytes_per_value: bytes of a value of a residual.
        num_models: number of transformers that share the steps, each with residuals of its own.
    """

    num_tokens: int
    num_text_tokens: int
    num_rows: int
    hidden_size: int
    depth: int
    bytes_per_value: int
    num_models: int = 1


def count_run(
    config: RunConfig,
    computed_steps: float | None = None,
    num_text_tokens: int | None = None,
    attention_products: bool = True,
    records: Sequence[StepRecord] = (),
) -> float | None:
    """Return the FLOPs of denoising one clip, including guidance.

    Args:
        config: config of the run, including its cache.
        computed_steps: measured or expected number of computed steps, for a policy that decides during the run. A
            fixed schedule does not need it.
        num_text_tokens: number of text tokens that the model reads. None is the maximum length of a prompt.
        attention_products: see `flops.count_step`.
        records: measured steps of all guidance branches that decide for themselves. With `guidance_reuse`, a policy
            that decides during the run needs them instead of `computed_steps`.

    Returns:
        The FLOPs, or None if the computed steps are unknown.
    """
    step = step_flops(config, num_text_tokens, attention_products)
    num_steps = config.num_sampling_steps
    if config.cache is None:
        return step.run(num_steps, num_steps)
    if isinstance(config.cache, SiteCacheConfig) and isinstance(config, OpenSoraConfig):
        return step.run_sites(config.cache, timesteps(config))
    if active(config.cache.guidance_reuse) is not None:
        return _count_branches(step, config, records)
    fixed = fixed_steps(config)
    measured = isinstance(config, PipelineConfig) and computed_steps is not None  # two transformers may share the steps
    number = computed_steps if fixed is None or measured else fixed
    return None if number is None else step.run(number, num_steps, config.cache.num_first_blocks)


def _count_branches(step: StepFlops, config: RunConfig, records: Sequence[StepRecord]) -> float | None:
    """Return the FLOPs of a run that leaves out unconditional rows; None if its steps are unknown."""
    cache, num_steps = config.cache, config.num_sampling_steps
    assert cache is not None and cache.guidance_reuse is not None
    fixed = cache.fixed_steps(num_steps)
    if records:
        cond = [record.fraction for record in records]
        kept = [record.fraction for record in records if not record.rebuilt]
    elif fixed is None:
        return None
    else:
        left_out = cache.guidance_reuse.left_out(fixed, num_steps)
        cond = [float(each in fixed) for each in range(1, num_steps + 1)]
        kept = [float(each in fixed) for each in range(1, num_steps + 1) if each not in left_out]
    has_calls_of_both = len(cond) > num_steps  # each branch is called, and recorded, by itself
    return step.run_rows([kept] if has_calls_of_both else [cond, kept], cache.num_first_blocks)


def fixed_steps(config: RunConfig) -> int | None:
    """Return the number of computed steps of a stack policy if its schedule is known before the run, else None."""
    if config.cache is None:
        return config.num_sampling_steps
    steps = config.cache.fixed_steps(config.num_sampling_steps)
    return None if steps is None else len(steps)


def timesteps(config: OpenSoraConfig) -> list[float]:
    """Return the timesteps of a run, transformed by its size if the config says so."""
    from opensora_adacache.schedulers import RFLOW

    scheduler = config.scheduler
    sampler = RFLOW(
        scheduler.num_sampling_steps, scheduler.num_timesteps, use_timestep_transform=scheduler.use_timestep_transform
    )
    return sampler.timesteps(*config.image_size, config.num_frames)


def step_lengths(config: OpenSoraConfig) -> dict[int, float]:
    """Return step → length of that step of the sampler, t_s − t_{s+1}, as a fraction of the whole range."""
    walked = [*timesteps(config), 0.0]
    steps = range(1, len(walked))
    return {step: (walked[step - 1] - walked[step]) / config.scheduler.num_timesteps for step in steps}


def step_flops(config: RunConfig, num_text_tokens: int | None = None, attention_products: bool = True) -> StepFlops:
    """Count one step of a run (see `count_run`).

    Of Open-Sora's models only a single layer is executed, because all layers cost the same.
    """
    if isinstance(config, PipelineConfig):
        return count_pipeline_step(config.pipeline, num_text_tokens, attention_products).flops
    config = _open_sora(config)
    tokens = config.text_encoder.model_max_length if num_text_tokens is None else num_text_tokens
    return _step_flops(structure(config.model), latent_size(config), tokens, attention_products)


def step_size(config: RunConfig, num_text_tokens: int | None = None) -> StepSize:
    """Return what a step of a run works on; see `count_run`."""
    if isinstance(config, PipelineConfig):
        step = count_pipeline_step(config.pipeline, num_text_tokens)
        dtype = config.pipeline.dtype_of("transformer")
        return StepSize(
            step.num_tokens,
            step.num_text_tokens,
            step.num_rows,
            step.hidden_size,
            step.depth,
            BYTES_PER_VALUE[dtype],
            step.num_models,
        )
    config = _open_sora(config)
    model = structure(config.model)
    return StepSize(
        num_tokens=count_tokens(latent_size(config), model.patch_size),
        num_text_tokens=config.text_encoder.model_max_length if num_text_tokens is None else num_text_tokens,
        num_rows=NUM_GUIDANCE_ROWS,
        hidden_size=model.hidden_size,
        depth=model.depth,
        bytes_per_value=BYTES_PER_VALUE[config.dtype],
    )


def _open_sora(config: RunConfig) -> OpenSoraConfig:
    if not isinstance(config, OpenSoraConfig):
        raise TypeError(f"expected an OpenSoraConfig or a PipelineConfig, got {type(config).__name__}")
    return config


@cache
def _step_flops(
    model: STDiT3Config, latents: tuple[int, int, int], num_text_tokens: int, attention_products: bool
) -> StepFlops:
    import torch

    from opensora_adacache.models import STDiT3

    with torch.device("meta"):
        layer = STDiT3(replace(model, depth=1))
    step = count_step(layer, latents, num_text_tokens, attention_products)
    computed = step.reused + model.depth * sum(step.sites.values())
    return replace(step, computed=computed, depth=model.depth)


def decoding_flops(config: OpenSoraConfig, attention_products: bool = True) -> int:
    """Count the FLOPs of decoding one clip."""
    return _decoding_flops(_vae_structure(config), latent_size(config), config.num_frames, attention_products)


@cache
def _decoding_flops(
    structure: OpenSoraVAEConfig, latents: tuple[int, int, int], num_frames: int, attention_products: bool
) -> int:
    return count_decoding(_empty_vae(structure), latents, num_frames, attention_products)


def latent_size(config: OpenSoraConfig) -> tuple[int, int, int]:
    """Return the size (T, H, W) of a clip's latents."""
    _, height, width = _empty_vae(_vae_structure(config)).latent_size((config.num_frames, *config.image_size))
    return config.num_latent_frames, height, width


def structure(settings: ModelSettings) -> STDiT3Config:
    """Return the structure of a local checkpoint, or for a checkpoint on the hub that of its type."""
    from opensora_adacache.models import STDiT3Config, checkpoint
    from opensora_adacache.models.structure import VARIANTS

    path = locate(settings.from_pretrained)
    if settings.type in VARIANTS and not path.is_dir():
        return STDiT3Config.from_dict(VARIANTS[settings.type])
    return STDiT3Config.from_dict(checkpoint.read_config(checkpoint.resolve(settings.from_pretrained)))


def _vae_structure(config: OpenSoraConfig) -> OpenSoraVAEConfig:
    """Return the structure of a local VAE, or for one on the hub the published structure."""
    from opensora_adacache.models import checkpoint
    from opensora_adacache.models.vae import OpenSoraVAEConfig

    path = locate(config.vae.from_pretrained)
    return OpenSoraVAEConfig.from_dict(checkpoint.read_config(path)) if path.exists() else OpenSoraVAEConfig()


@cache
def _empty_vae(structure: OpenSoraVAEConfig) -> OpenSoraVAE:
    import torch

    from opensora_adacache.models import OpenSoraVAE

    with torch.device("meta"):
        return OpenSoraVAE(structure)
