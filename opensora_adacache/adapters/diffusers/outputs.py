"""What diffusers transformers take and return, for some rows of a call and as tensors.

Letters: R batch rows (videos × guidance branches), N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.adapters.block_calls import map_tensors
from opensora_adacache.adapters.diffusers.grids import channels_last_grid
from opensora_adacache.adapters.transformer_adapter import Grid, TransformerAdapter
from opensora_adacache.caching.guidance.branches import Rows
from opensora_adacache.caching.guidance.unconditional import PLAIN, Picture


def batched(latents: Tensor | Sequence[Tensor], is_packed: bool = False) -> Tensor:
    """Return latents, or an output, as one tensor [R, …].

    Args:
        latents: a tensor, or a list as some models take and return it.
        is_packed: whether a list holds the items of one video, of which the last is denoised, and not one per video.
    """
    if isinstance(latents, Tensor):
        return latents
    return latents[-1][None] if is_packed else torch.stack(list(latents))


class ReturnedForm:
    """The form in which a model returns its output: a tensor, a list of them, or either within a tuple or a dict.

    Args:
        is_packed: see `batched`.
    """

    def __init__(self, is_packed: bool = False) -> None:
        self._is_packed = is_packed
        self._kind: type = Tensor
        self._name: str | None = None
        self._is_list = False

    def read(self, returned: Any) -> Tensor:
        """Return the output [R, …] of what the model returned, whose form is kept for `write`."""
        self._kind, self._name = type(returned), None
        if not isinstance(returned, Tensor | tuple):
            self._name = next(iter(returned))  # "sample", but for a few
        first = self._first(returned)
        self._is_list = not isinstance(first, Tensor)
        return batched(first, self._is_packed)

    def write(self, output: Tensor, returned: Any) -> Any:
        """Return an output in this form.

        Args:
            output: [R, …].
            returned: what the model returned at this step, whose other values are kept; None if it did not run.
        """
        value = list(output) if self._is_list else output
        if self._is_list and self._is_packed and returned is not None:
            value = [*self._first(returned)[:-1], *value]
        if self._name is not None:
            others = {name: other for name, other in (returned or {}).items() if name != self._name}
            return self._kind(**{self._name: value, **others})
        return (value, *(returned or ())[1:]) if issubclass(self._kind, tuple) else value

    def _first(self, returned: Any) -> Any:
        """Return the output within what the model returned."""
        if self._name is not None:
            return returned[self._name]
        return returned[0] if isinstance(returned, tuple) else returned


def rows_of_call(arguments: Mapping[str, Any], rows: Rows, num_rows: int, known: TransformerAdapter) -> dict[str, Any]:
    """Return the arguments of a call, by name, restricted to some of its R rows.

    A tensor has rows if its first axis has length R and the adapter does not list it as shared.

    Args:
        arguments: as `inspect.Signature.bind` gives them for the model's forward.
        rows: the rows.
        num_rows: R.
        known: description of the model.
    """

    def some(x: Tensor) -> Tensor:
        return x[rows] if x.ndim and len(x) == num_rows else x

    named = {name: value for name, value in arguments.items() if name not in ("self", "kwargs")}
    named |= arguments.get("kwargs", {})  # those that the forward does not name
    return {name: value if name in known.shared else map_tensors(some, value) for name, value in named.items()}


def picture_of(latents: Tensor, grid: Grid | None, known: TransformerAdapter) -> Picture:
    """Return where the pictures of an output are, which has the layout of the latents.

    Raises:
        ValueError: the layout is unknown.
    """
    if latents.ndim == 5 and known.grid is channels_last_grid:
        return Picture((2, 3))
    if latents.ndim in (4, 5):
        return PLAIN
    if latents.ndim == 3 and grid is not None and latents.shape[1] == prod(grid):
        return Picture((2, 3), grid)
    raise ValueError(
        f"guidance_reuse tells low from high spatial frequencies, and the rows and columns of latents of shape "
        f"{tuple(latents.shape)} are unknown here: leave guidance_reuse out"
    )
