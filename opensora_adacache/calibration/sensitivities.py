"""How sensitive the residual of the block stack is to its input and to the timestep, for SenCache.

At each step s of an uncached run, the model runs once more with the timestep of the step before. With r(x, t) the
residual for input x and timestep t / 1000:

- J_x of step s − 1 is rms(r(x_s, t_{s−1}) − r(x_{s−1}, t_{s−1})) / rms(x_s − x_{s−1}), as its authors measure it;
- J_t of step s − 1 is rms(r(x_s, t_s) − r(x_s, t_{s−1})) / |t_s − t_{s−1}|. The authors take it at x_{s−1}, which needs
  another run of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from torch import Tensor

from opensora_adacache.adapters.patches import wrapped_call
from opensora_adacache.adapters.recorder import record_stack
from opensora_adacache.models import STDiT3


@dataclass
class Sensitivities:
    """Measurements of one video.

    Attributes:
        inputs: J_x of steps 1..n − 1.
        times: J_t of the same steps.
    """

    inputs: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


@contextmanager
def record_sensitivities(model: STDiT3) -> Iterator[Sensitivities]:
    """Measure the uncached run of one video inside a ``with`` block, from outside."""
    found, stacks = Sensitivities(), list[tuple[Tensor, Tensor]]()
    last: list[Tensor] = []

    def twice(original: Callable) -> Callable:
        def call(z: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Any:
            before = stacks.pop() if stacks else None
            if before is not None:
                original(z, last[0], *args, **kwargs)
            out = original(z, timestep, *args, **kwargs)
            if before is not None:
                (x, shadow), (_, residual) = stacks
                length = (timestep - last[0]).abs().max().item() / 1000
                found.inputs.append(rms(shadow - before[1]) / rms(x - before[0]))
                found.times.append(rms(residual - shadow) / length)
            last[:], stacks[:] = [timestep], stacks[-1:]
            return out

        return call

    def keep(x: Tensor, out: Tensor, modulated_input: Tensor) -> None:
        stacks.append((x, out - x))

    with record_stack(model, keep), wrapped_call(model, twice):
        yield found


def mean_sensitivities(videos: Sequence[Sensitivities]) -> dict[str, tuple[float, ...]]:
    """Return the settings of SenCache: means over videos, with four significant digits.

    >>> mean_sensitivities([Sensitivities([1.0], [2.0]), Sensitivities([2.0], [4.0])])
    {'input_sensitivities': (1.5,), 'time_sensitivities': (3.0,)}
    """

    def means(columns: Sequence[list[float]]) -> tuple[float, ...]:
        return tuple(float(f"{fmean(column):.4g}") for column in zip(*columns, strict=True))

    return {
        "input_sensitivities": means([video.inputs for video in videos]),
        "time_sensitivities": means([video.times for video in videos]),
    }


def rms(x: Tensor) -> float:
    """Return the root mean square.

    >>> import torch
    >>> rms(torch.tensor([3.0, -3.0]))
    3.0
    """
    return x.float().square().mean().sqrt().item()
