"""How the blocks of diffusion transformers receive and return video and text tokens.

R batch rows, N video tokens, C channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from opensora_adacache.adapters.diffusers._compat import TransformerBlockMetadata, block_metadata
from opensora_adacache.adapters.transformer_adapter import TransformerAdapter


class BlockSignature:
    """Locates video and text tokens in the calls of a block class.

    Args:
        block_class: class of the blocks.
        adapter: where they take and return tokens; where it does not say, the class's entry in diffusers' registry.
    """

    def __init__(self, block_class: type[nn.Module], adapter: TransformerAdapter) -> None:
        known = block_metadata(block_class) if adapter.returns is None else None
        self._metadata = known or _described(adapter)
        self._names = list(inspect.signature(block_class.forward).parameters)[1:]

    @property
    def has_text(self) -> bool:
        """Whether the block also returns text tokens."""
        return self._metadata.return_encoder_hidden_states_index is not None

    def video(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Return the video tokens among the arguments of a call."""
        return self.argument(self._metadata.hidden_states_argument_name, args, kwargs)

    def text(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Return the text tokens among the arguments of a call."""
        return self.argument(self._metadata.encoder_hidden_states_argument_name, args, kwargs)

    def video_out(self, out: Any) -> Tensor:
        """Return the video tokens that a call returned."""
        return out[self._metadata.return_hidden_states_index] if isinstance(out, tuple) else out

    def text_out(self, out: Any) -> Tensor:
        """Return the text tokens that a call returned."""
        return out[self._metadata.return_encoder_hidden_states_index]

    def returns(self, video: Tensor, text: Tensor | None) -> Any:
        """Return video and text tokens as a call would; without `text` for a block that returns only video tokens."""
        if not self.has_text:
            return video
        places = {
            self._metadata.return_hidden_states_index: video,
            self._metadata.return_encoder_hidden_states_index: text,
        }
        return tuple(places.get(index) for index in range(max(places) + 1))

    @property
    def video_name(self) -> str:
        """Name of the argument with the video tokens."""
        return self._metadata.hidden_states_argument_name

    def select(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], rows: Tensor, num_rows: int, shared: Sequence[str]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call restricted to some rows.

        A tensor is taken to have rows if its first axis is as long as that of the video tokens, [R·k, …].
        """
        length = self.video(args, kwargs).shape[0]

        def some(x: Tensor) -> Tensor:
            return select_rows(x, rows, num_rows) if x.ndim and x.shape[0] == length else x

        def chosen(name: str | None, value: Any) -> Any:
            return value if name in shared else map_tensors(some, value)

        names = [*self._names, *[None] * len(args)]
        return (
            [chosen(name, value) for name, value in zip(names, args, strict=False)],
            {name: chosen(name, value) for name, value in kwargs.items()},
        )

    def argument(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return an argument of a call by its name; None if the call leaves it out."""
        if name in kwargs:
            return kwargs[name]
        place = self._names.index(name)
        return args[place] if place < len(args) else None


def select_rows(x: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Return some rows of a tensor [R·k, …]."""
    return x[rows] if x.shape[0] == num_rows else x.unflatten(0, (num_rows, -1))[rows].flatten(0, 1)


def rows_of_argument(value: Any, rows: slice | Tensor | None, num_rows: int) -> Any:
    """Return some rows of an argument of a model; R rows may share fewer, which are then repeated in turn.

    Args:
        value: a tensor whose first axis divides R, or anything else, which has no rows.
        rows: the rows; None for all of them.
        num_rows: R.
    """
    if rows is None or not isinstance(value, Tensor) or value.ndim == 0 or num_rows % value.shape[0]:
        return value
    return value.repeat(num_rows // value.shape[0], *[1] * (value.ndim - 1))[rows]


def with_rows(x: Tensor, new: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Return a copy of a tensor [R·k, …] whose `rows` are `new` [r·k, …]."""
    out = x.unflatten(0, (num_rows, -1)).clone()
    out[rows] = new.unflatten(0, (rows.shape[0], -1))
    return out.flatten(0, 1)


def spread_rows(new: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Return a tensor [R·k, …] whose `rows` are `new` [r·k, …] and whose other rows are zero."""
    length = new.shape[0] // rows.shape[0] * num_rows
    return with_rows(new.new_zeros(length, *new.shape[1:]), new, rows, num_rows)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return nested tuples, lists and dicts with a function applied to each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(function, item) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    return value


def _described(adapter: TransformerAdapter) -> TransformerBlockMetadata:
    """Return what an adapter says about the blocks, in the form of diffusers' registry."""
    returns = adapter.returns or ("tokens",)
    return TransformerBlockMetadata(
        return_hidden_states_index=returns.index("tokens"),
        return_encoder_hidden_states_index=returns.index("text") if adapter.block_text else None,  # type: ignore[arg-type]
        hidden_states_argument_name=adapter.block_tokens,
        encoder_hidden_states_argument_name=adapter.block_text or "encoder_hidden_states",
    )
