"""Records an uncached run: the residuals of its probe, or the input and output of its block stack."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from opensora_adacache.adapters.patches import Patches, wrapped, wrapped_call
from opensora_adacache.adapters.stdit3.attach import probe_sites
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.replay import Recorder
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.models.stdit3 import BlockInputs, STDiT3, STDiT3Block


@contextmanager
def record_probe(model: STDiT3, config: AdaCacheConfig) -> Iterator[Recorder]:
    """Measure the residual of the probe site at each call of the model, from outside; each call is a step.

    Raises:
        ValueError: the settings select several sites.
    """
    sites = probe_sites(model, config.probe)
    if len(sites) != 1:
        raise ValueError(f"a recording needs one probe site, but cache_res and cache_loc select {len(sites)}")
    recorder = recorder_for(config)

    def keep(original: Callable) -> Callable:
        def residual(x: Tensor, inputs: BlockInputs) -> Tensor:
            out = original(x, inputs)
            recorder.add(out, inputs.num_clip_frames)
            return out

        return residual

    block, method, _ = sites[0]
    with wrapped(block, method, keep):
        yield recorder


def recorder_for(config: AdaCacheConfig) -> Recorder:
    """Return a recorder of what settings measure on a video; their thresholds do not matter."""
    strides = config.moreg.strides if config.moreg else (1,)
    return Recorder(strides, max(config.codebook.values()), config.metric)


@contextmanager
def record_stack(model: STDiT3, observe: Callable[[Tensor, Tensor, Tensor], None]) -> Iterator[None]:
    """Call ``observe(x, out, modulated_input)`` after the stack at each call of the model, from outside.

    `x` and `out` are the input and output of the block stack; `modulated_input` is the input of the first block's
    attention; all are [R, N, C].
    """

    def watch(original: Callable) -> Callable:
        def forward_blocks(x: Tensor, inputs: BlockInputs) -> Tensor:
            out = original(x, inputs)
            observe(x, out, cast(STDiT3Block, model.spatial_blocks[0]).modulated_input(x, inputs))
            return out

        return forward_blocks

    with wrapped(model, "forward_blocks", watch):
        yield


@contextmanager
def record_branches(
    model: nn.Module, config: AdaCacheConfig, num_sampling_steps: int | Callable[[], int]
) -> Iterator[dict[str, Recorder]]:
    """Measure the probe of a diffusers transformer, from outside, while its pipeline makes one video.

    Yields one recorder per guidance branch by name, filled as the pipeline runs; every step computes.

    Raises:
        ValueError: the settings do not fit the model, or select several probe sites.
    """
    from opensora_adacache.adapters.diffusers.attach import attach_diffusers

    if len(config.cache_loc or (0,)) != 1:
        raise ValueError(f"a recording needs one probe site, but cache_loc selects {len(config.cache_loc or ())}")
    recorders: dict[str, Recorder] = {}

    def watch(name: str, branch: CacheSession) -> None:
        recorder = recorders[name] = recorder_for(config)

        def keep(original: Callable) -> Callable:
            def observe(site: str, residual: Tensor, num_frames: int) -> None:
                recorder.add(residual, num_frames)
                original(site, residual, num_frames)

            return observe

        Patches().wrap(branch, "observe", keep)

    with attach_diffusers(model, replace(config, codebook={1.0: 1}), num_sampling_steps) as session:
        session.on_new_branch = watch
        yield recorders


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the output of each call of a model, from outside."""
    outputs: list[Tensor] = []

    def keep(original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> Tensor:
            outputs.append(original(*args, **kwargs))
            return outputs[-1]

        return call

    with wrapped_call(model, keep):
        yield outputs


@contextmanager
def play_back(model: nn.Module, outputs: Sequence[Any]) -> Iterator[None]:
    """Let the first calls of a model return recorded outputs; later calls run the model with whatever is attached."""
    waiting = list(reversed(outputs))

    def first_recorded(original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> Any:
            return waiting.pop() if waiting else original(*args, **kwargs)

        return call

    with wrapped_call(model, first_recorded):
        yield


@contextmanager
def record_calls(model: nn.Module) -> Iterator[list[tuple[float, Any]]]:
    """Collect the timestep and the output of each call of a diffusers transformer, from outside, on the CPU."""
    from opensora_adacache.adapters.diffusers.describe import describe

    calls: list[tuple[float, Any]] = []
    signature, name = inspect.signature(type(model).forward), describe(model).timestep

    def keep(original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> Any:
            out = original(*args, **kwargs)
            timestep = signature.bind(model, *args, **kwargs).arguments[name]
            calls.append((float(torch.as_tensor(timestep).max()), moved(out, torch.device("cpu"))))
            return out

        return call

    with wrapped_call(model, keep):
        yield calls


def moved(out: Any, device: torch.device) -> Any:
    """Return what a model returned, a tensor, a tuple, a list or an output class of diffusers, on a device."""
    if isinstance(out, Tensor):
        return out.to(device)
    if isinstance(out, Mapping):
        return type(out)(**{name: moved(value, device) for name, value in out.items()})
    return type(out)(moved(value, device) for value in out) if isinstance(out, tuple | list) else out
