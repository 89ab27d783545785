"""`apply_cache`, the only function needed to attach a cache to a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opensora_adacache.adapters.requested import Requested
from opensora_adacache.adapters.schedulers import RECTIFIED_FLOW, OutputWeights, weights_of
from opensora_adacache.caching.checks import plain
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.presets.identity import ModelIdentity, identity_of_pipeline, identity_of_stdit3

if TYPE_CHECKING:
    from opensora_adacache.adapters.branches import BranchedSession
    from opensora_adacache.adapters.diffusers.experts_session import ExpertsSession
    from opensora_adacache.adapters.transformer_adapter import TransformerAdapter

MODULAR = "diffusers.modular_pipelines.modular_pipeline"


def apply_cache(
    model: Any,
    config: CacheConfig | None = None,
    num_sampling_steps: int | None = None,
    *,
    speedup: float | None = None,
    policy: str | None = None,
    scheduler: Any = None,
    adapter: TransformerAdapter | None = None,
) -> CacheSession | BranchedSession | ExpertsSession:
    """Attach a cache to a model from outside and return its session.

    Use it in a ``with`` statement, or call it directly and remove the cache later with ``session.detach()``. Everything
    is checked before the model is touched, and detaching restores the model completely.

    Args:
        model: an `opensora_adacache.models.STDiT3`, the STDiT3 of the upstream `opensora` package (or the MMDiT of its
            version 2.0), the LatteT2V of Open-Sora-Plan 1.1, a diffusers transformer (docs/guide/adapters.md lists
            them), or a diffusers pipeline, modular or not.
        config: settings of a policy: an `AdaCacheConfig` or any other `CacheConfig`, including your own.
        num_sampling_steps: number of denoising steps of the sampler. With diffusers it is the length of the scheduler's
            `timesteps`; for a pipeline it may be omitted and is then read at each call. For one with two transformers
            that share the steps it must be omitted.
        speedup: n / computed steps, in place of `config`. The settings come from a preset of the model, or else from a
            calibration of your own (docs/guide/calibration.md).
        policy: "forecastcache" or "adacache", with `speedup`. None takes the first of them that has settings.
        scheduler: the scheduler of the run, which a `corrector` must know of a diffusers transformer: a scheduler of
            diffusers, or "rectified flow" for Euler steps along one. A pipeline has its own, and Open-Sora's models are
            sampled by Euler steps along a rectified flow unless you say otherwise.
        adapter: describes a transformer of a class that the package does not know; see `TransformerAdapter`.

    Raises:
        ValueError: the settings do not fit the model, the run or the scheduler, there are none for this speedup, or the
            model already has a cache.
    """
    requested = Requested(config, speedup, policy)
    n = None if num_sampling_steps is None else plain(num_sampling_steps)
    if adapter is not None:
        return _attach_described(model, requested, n, scheduler, adapter)
    if _is_of(model, "diffusers", "DiffusionPipeline") or _is_of(model, MODULAR, "ModularPipeline"):
        from opensora_adacache.adapters.diffusers.pipeline import attach_pipeline

        if scheduler is not None:
            raise ValueError("a pipeline has its own scheduler: set pipe.scheduler, and leave scheduler out")
        return attach_pipeline(model, requested, n)
    if n is None:
        raise ValueError(
            "apply_cache needs num_sampling_steps for a model: pass the sampler's, or pass the diffusers pipeline"
        )
    if _is_of(model, "opensora_adacache.models.stdit3", "STDiT3"):
        from opensora_adacache.adapters.stdit3.attach import attach_stdit3

        settings = requested.at(n, lambda: identity_of_stdit3(model.config))
        weights = weights_of(settings, scheduler or RECTIFIED_FLOW)
        return _told(attach_stdit3(model, settings, n), weights)
    if _is_of(model, "diffusers", "ModelMixin"):
        from opensora_adacache.adapters.diffusers.attach import attach_diffusers

        settings = requested.at(n, lambda: _identity(model))
        weights = weights_of(settings, scheduler)
        return _told(attach_diffusers(model, settings, n), weights)
    if _is_of(model, "opensora.models.stdit.stdit3", "STDiT3"):
        from opensora_adacache.adapters.opensora.attach import attach_opensora

        settings = requested.at(n, lambda: identity_of_stdit3(model.config))
        weights = weights_of(settings, scheduler or RECTIFIED_FLOW)
        return _told(attach_opensora(model, settings, n), weights)
    if _is_of(model, "opensora.models.mmdit.model", "MMDiTModel"):
        from opensora_adacache.adapters.opensora_2.attach import attach_opensora_2

        if requested.config is None:
            raise ValueError("Open-Sora 2.0 has no settings for a speedup: pass the settings of a policy")
        weights = weights_of(requested.config, scheduler or RECTIFIED_FLOW)
        return _told(attach_opensora_2(model, requested.config, n), weights)
    hint = "; describe a transformer of another class with adapter=TransformerAdapter(…)"
    if hasattr(model, "transformer"):
        hint = "; give it the pipeline's transformer"
    elif hasattr(model, "_orig_mod"):
        hint = ", a model compiled as a whole; compile its blocks instead, with block.compile(), and give it the model"
    raise ValueError(
        "apply_cache knows opensora_adacache.models.STDiT3, upstream's STDiT3 and MMDiT, Open-Sora-Plan's LatteT2V and "
        f"transformers of diffusers, got {type(model).__name__}{hint}"
    )


def _identity(model: Any) -> ModelIdentity:
    """Return the identity of a diffusers transformer without its pipeline."""
    return identity_of_pipeline(model.config.get("_name_or_path") or "", type(model).__name__, model.config)


def _told(session: CacheSession | BranchedSession, weights: OutputWeights | None) -> Any:
    """Tell a session how far outputs move the final latents."""
    session.output_weights = weights
    return session


def _attach_described(
    model: Any, requested: Requested, num_sampling_steps: int | None, scheduler: Any, adapter: TransformerAdapter
) -> BranchedSession:
    """Attach a session to a model that the user describes.

    Raises:
        ValueError: the model is not a torch module, or settings, a number of steps or an adapter is missing.
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
    if requested.config is None:
        raise ValueError("no calibration knows a model that adapter describes: pass settings in place of speedup")
    weights = weights_of(requested.config, scheduler)
    return _told(attach_diffusers(model, requested.config, num_sampling_steps, adapter), weights)


def _is_of(model: Any, module: str, name: str) -> bool:
    """Return whether a model is of this class, without importing the module: an instance implies it is imported."""
    return module in sys.modules and isinstance(model, getattr(sys.modules[module], name))
