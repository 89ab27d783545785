"""Adapter for the STDiT3 of the upstream `opensora` package, version 1.2.0.

Its blocks run as those of diffusers do (`block_stack`). This project includes neither its source nor its weights;
`opensora.registry` registers our models under its names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from opensora_adacache.adapters.block_calls import BlockSignature, rows_of_argument, select_rows
from opensora_adacache.adapters.block_stack import BlockStack, StackBlock
from opensora_adacache.adapters.diffusers._compat import TransformerBlockMetadata
from opensora_adacache.adapters.patches import CALL, Patches
from opensora_adacache.adapters.probes import probed_layers, warn_of_misfit
from opensora_adacache.adapters.transformer_adapter import Grid, TransformerAdapter
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.guidance.branches import Rows
from opensora_adacache.caching.session import CacheSession

FORWARD = ("self", "x", "timestep", "y", "mask", "x_mask", "fps", "height", "width", "kwargs")
BLOCK_FORWARD = ("self", "x", "y", "t", "mask", "x_mask", "t0", "T", "S")
"""Parameters of the forward of STDiT3 and of its block in version 1.2.0."""
UPSTREAM = TransformerAdapter(stacks=("spatial_blocks", "temporal_blocks"), attention="attn")


def attach_opensora(model: nn.Module, config: CacheConfig, num_sampling_steps: int) -> CacheSession:
    """Attach a session to an upstream STDiT3; see `opensora_adacache.adapters.apply_cache`.

    Schedules and latents equal those of our STDiT3 with the same weights. The probe is the temporal attention of layer
    depth // 2 − 1, unless `cache_res` ("t-attn", "s-attn") and `cache_loc` choose another.

    Raises:
        ValueError: the package has another version, or the settings do not fit.
    """
    layers = _check_version(model)
    config.check_run(num_sampling_steps, len(layers))
    if config.granularity != "stack":
        raise ValueError(f"on upstream's STDiT3 only granularity='stack' is possible, got {config.granularity!r}")
    if config.probe is not None and config.probe.residual == "ca-mlp":
        raise ValueError("on upstream's STDiT3 cache_res must be 't-attn' or 's-attn', got 'ca-mlp'")
    if getattr(model, "enable_sequence_parallelism", False):
        raise ValueError("upstream's sequence parallelism is not supported with a cache: build the model without it")
    if model.__dict__.get(CALL) is not None:
        raise ValueError("this model has a cache attached already, or is compiled: detach that session first")

    warn_of_misfit(config, num_sampling_steps)
    session = CacheSession(config, num_sampling_steps)
    stack = BlockStack(_stack_blocks(layers, config), UPSTREAM, config.num_first_blocks, True, partial(_blocks, model))
    patches = Patches()
    stack.wrap(patches)
    patches.wrap_model(model, partial(_call, session, stack, model))
    session.on_detach = patches.restore
    return session


class _Signature(BlockSignature):
    """Upstream's block receives the text tokens of all rows as one sequence [1, ΣL, C], with the length of each row."""

    def __init__(self) -> None:
        self._metadata = TransformerBlockMetadata(return_hidden_states_index=0, hidden_states_argument_name="x")
        self._names = list(BLOCK_FORWARD[1:])
        self._chosen: tuple[Tensor, list[int]] | None = None  # the rows of the latest call, which share a tensor

    def select(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], rows: Tensor, num_rows: int, shared: Sequence[str]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call restricted to some rows."""
        x, y, t, lengths, x_mask, t0, *sizes = (*args, *kwargs.values())
        if self._chosen is None or self._chosen[0] is not rows:  # once per call of the model, because it waits
            self._chosen = rows, rows.tolist()
        chosen = self._chosen[1]
        texts = y.split(lengths, dim=1)
        some = [
            select_rows(x, rows, num_rows),
            torch.cat([texts[row] for row in chosen], dim=1),
            select_rows(t, rows, num_rows),
            [lengths[row] for row in chosen],
            None if x_mask is None else x_mask[rows],
            None if t0 is None else t0[rows],
            *sizes,
        ]
        return some, {}


def _check_version(model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Return the layers as pairs of a spatial and a temporal block.

    Raises:
        ValueError: the classes are not those of version 1.2.0.
    """
    lists = [getattr(model, name, None) for name in UPSTREAM.stacks]
    blocks = [block for blocks in lists if blocks is not None for block in blocks]
    found = [tuple(inspect.signature(type(module).forward).parameters) for module in (model, *blocks[:1])]
    if found != [FORWARD, BLOCK_FORWARD]:
        raise ValueError(
            f"this adapter supports opensora 1.2.0, whose {type(model).__name__}.forward takes "
            f"({', '.join(FORWARD[1:])}), got ({', '.join(found[0][1:])}): install that version"
        )
    return list(zip(*lists, strict=True))  # type: ignore[arg-type]


def _blocks(model: nn.Module) -> list[nn.Module]:
    pairs = zip(*(getattr(model, name) for name in UPSTREAM.stacks), strict=True)
    return [block for pair in pairs for block in pair]


def _stack_blocks(layers: list[tuple[nn.Module, nn.Module]], config: CacheConfig) -> list[StackBlock]:
    kind = None if config.probe is None else config.probe.residual
    places = {"s-attn": (0,), "output": (0, 1)}.get(kind or "", (1,))
    probed = probed_layers(config.probe, len(layers))
    signature = _Signature()
    return [
        StackBlock(
            module=block,
            stack=stack,
            signature=signature,
            site=f"{number}.{stack}" if number in probed and place in places else None,
            after="cross_attn",  # its input is x plus the gated attention residual
            shows_output=kind == "output",
        )
        for number, layer in enumerate(layers)
        for place, (stack, block) in enumerate(zip(UPSTREAM.stacks, layer, strict=True))
    ]


def _call(session: CacheSession, stack: BlockStack, model: Any, original: Callable) -> Callable:
    def call(x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Any:
        grid, num_rows = Grid(*model.get_dynamic_size(x)), len(x)

        def forward(rows: Rows) -> Tensor:
            some, *more = (rows_of_argument(value, rows, num_rows) for value in (x, timestep, *args))
            named = {name: rows_of_argument(value, rows, num_rows) for name, value in kwargs.items()}
            run = partial(original, some, *more, **named)
            return stack.run_aside(run) if session.is_aside else stack.run(session, len(some), grid, run)

        with session.model_call(x, timestep):
            return session.run_model(forward)

    return call
