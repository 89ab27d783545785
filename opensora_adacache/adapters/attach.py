"""`apply_cache`, the only function needed to attach a cache to a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opensora_adacache.caching.checks import plain
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.session import CacheSession

if TYPE_CHECKING:
    from opensora_adacache.adapters.branches import BranchedSession
    from opensora_adacache.adapters.transformer_adapter import TransformerAdapter


def apply_cache(
    model: Any,
    config: CacheConfig,
    num_sampling_steps: int | None = None,
    adapter: TransformerAdapter | None = None,
) -> CacheSession | BranchedSession:
    """Attach a cache to a model from outside and return its session.

    Use it in a ``with`` statement, or call it directly and remove the cache later with ``session.detach()``. Everything
    is checked before the model is touched, and detaching restores the model completely.

    Args:
        model: an `opensora_adacache.models.STDiT3`, the upstream `opensora` package's STDiT3, a diffusers transformer
            (docs/guide/adapters.md lists them), or a diffusers pipeline.
        config: settings of a policy: an `AdaCacheConfig` or any other `CacheConfig`, including your own.
        num_sampling_steps: number of denoising steps of the sampler. With diffusers it is the length of the scheduler's
            `timesteps`; for a pipeline it may be omitted and is then read at each call.
        adapter: describes a transformer of a class that the package does not know; see `TransformerAdapter`.

    Raises:
        ValueError: the settings do not fit the model or the run, or the model already has a cache.
    """
    if not isinstance(config, CacheConfig):
        given = f"the class {config.__name__}" if isinstance(config, type) else type(config).__name__
        raise ValueError(f"apply_cache expects the settings of a policy, an instance of a CacheConfig, got {given}")
    num_sampling_steps = None if num_sampling_steps is None else plain(num_sampling_steps)
    if adapter is not None:
        return _attach_described(model, config, num_sampling_steps, adapter)
    if _is_of(model, "diffusers", "DiffusionPipeline"):
        from opensora_adacache.adapters.diffusers.pipeline import attach_pipeline

        return attach_pipeline(model, config, num_sampling_steps)
    if num_sampling_steps is None:
        raise ValueError(
            "apply_cache needs num_sampling_steps for a model: pass the sampler's, or pass the diffusers pipeline"
        )
    if _is_of(model, "opensora_adacache.models.stdit3", "STDiT3"):
        from opensora_adacache.adapters.stdit3.attach import attach_stdit3

        return attach_stdit3(model, config, num_sampling_steps)
    if _is_of(model, "diffusers", "ModelMixin"):
        from opensora_adacache.adapters.diffusers.attach import attach_diffusers

        return attach_diffusers(model, config, num_sampling_steps)
    if _is_of(model, "opensora.models.stdit.stdit3", "STDiT3"):
        from opensora_adacache.adapters.opensora.attach import attach_opensora

        return attach_opensora(model, config, num_sampling_steps)
    hint = "; describe a transformer of another class with adapter=TransformerAdapter(…)"
    if hasattr(model, "transformer"):
        hint = "; give it the pipeline's transformer"
    elif hasattr(model, "_orig_mod"):
        hint = ", a model compiled as a whole; compile its blocks instead, with block.compile(), and give it the model"
    raise ValueError(
        "apply_cache knows opensora_adacache.models.STDiT3, upstream's STDiT3 and transformers of diffusers, "
        f"got {type(model).__name__}{hint}"
    )


def _attach_described(
    model: Any, config: CacheConfig, num_sampling_steps: int | None, adapter: TransformerAdapter
) -> BranchedSession:
    """Attach a session to a model that the user describes.

    Raises:
        ValueError: the model is not a torch module, or a number of steps or a `TransformerAdapter` is missing.
    """
    from torch import nn

    from opensora_adacache.adapters.diffusers.attach import attach_diffusers
    from opensora_adacache.adapters.transformer_adapter import TransformerAdapter

    if not isinstance(adapter, TransformerAdapter):
        raise ValueError(f"adapter must be a TransformerAdapter, got {type(adapter).__name__}")
    if not isinstance(model, nn.Module) or num_sampling_steps is None:
        raise ValueError(
            "adapter describes a transformer: pass the transformer itself, a torch module, and num_sampling_steps, got "
            f"{type(model).__name__} and {num_sampling_steps}"
        )
    return attach_diffusers(model, config, num_sampling_steps, adapter)


def _is_of(model: Any, module: str, name: str) -> bool:
    """Return whether a model is of this class, without importing the module: an instance implies it is imported."""
    return module in sys.modules and isinstance(model, getattr(sys.modules[module], name))
