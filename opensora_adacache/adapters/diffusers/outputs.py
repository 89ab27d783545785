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


def batched(latents: Tensor | Sequence[Tensor]) -> Tensor:
    """Return latents, or an output, as one tensor [R, …]; some models take and return a list with one per video."""
    return latents if isinstance(latents, Tensor) else torch.stack(list(latents))


class ReturnedForm:
    """The form in which a model returns its output: a tensor, a list of them, or either within a tuple or a dict."""

    def __init__(self) -> None:
        self._kind: type = Tensor
        self._name: str | None = None
        self._is_list = False

    def read(self, returned: Any) -> Tensor:
        """Return the output [R, …] of what the model returned, whose form is kept for `write`."""
        self._kind, self._name = type(returned), None
        first = returned
        if isinstance(returned, tuple):
            first = returned[0]
        elif not isinstance(returned, Tensor):
            self._name = next(iter(returned))  # "sample", but for a few
            first = returned[self._name]
        self._is_list = not isinstance(first, Tensor)
        return batched(first)

    def write(self, output: Tensor, returned: Any) -> Any:
        """Return an output in this form.

        Args:
            output: [R, …].
            returned: what the model returned at this step, whose other values are kept; None if it did not run.
        """
        value = list(output) if self._is_list else output
        if self._name is not None:
            others = {name: other for name, other in (returned or {}).items() if name != self._name}
            return self._kind(**{self._name: value, **others})
        return (value, *(returned or ())[1:]) if issubclass(self._kind, tuple) else value


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
