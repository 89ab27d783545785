"""Corrects, at a computed step, part of the error that the skipped steps before it made in the latents.

R batch rows; v is the model's output, t the timestep.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore, over_rows, row_index


class Corrector:
    """Tracks the output at each row's last computed step and the drift of the latents over the skipped steps since.

    A sampler that takes Euler steps along a rectified flow moves the latents by (tₛ − tₛ₊₁)·v at step s. When a
    computed step at t provides the true output v, the outputs of the skipped steps since t₁ can be estimated better
    than they were forecast: they lie approximately on the line from v₁ to v. The latents are therefore off by

        d = Σ (tₛ − tₛ₊₁)·(v̂ₛ − v₁ − (tₛ − t₁)/(t − t₁)·(v − v₁))

    over the skipped steps. The corrected output v − gain·d / Δt moves the latents back by gain·d in this step of length
    Δt.

    Any other sampler whose steps are linear in the outputs has weights in place of these lengths: hₛ = ∂xₙ/∂vₛ, how far
    the output of step s moves the final latents. With them d is the error of the final latents, and v − gain·d / hₛ
    takes it back (`adapters/diffusers/schedulers.py` has the equations and finds the weights of a scheduler). Guidance
    combines the outputs of two branches linearly, so each branch corrects itself; a guidance scale that changes between
    steps makes this approximate.

    This method is ours. Correcting the latents with an output that is computed anyway is the idea of UniPC (arXiv
    2302.04867), which does it inside the sampler; here the sampler is not involved. The gain is below 1 because v was
    computed from latents that were already off, and because later forecasts start from v.

    Without weights, the model does not know its own step length: it is extrapolated linearly from the two steps before,
    and equals t at the last step. A frame that the sampler begins to generate within a stretch of skipped steps is
    corrected for the whole stretch.

    Args:
        store: where the two tensors with the shape of the output are kept.
        gain: fraction of the accumulated error to subtract, above 0 and below 1.
        weights: hₛ of each step of the run. None for Euler steps along a rectified flow, with t from 1000 to 0.
    """

    BASE = "output at the last computed step"
    DRIFT = "drift since the last computed step"

    def __init__(self, store: ResidualStore, gain: float, weights: Sequence[float] | None = None) -> None:
        self.store = store
        self.gain = gain
        self._weights = None if weights is None else torch.tensor(weights)
        self._num_steps_done = 0
        self._times: list[Tensor] = []  # of the last three steps, latest first
        # for each row, t₁ of the last computed step and Σ (tₛ − tₛ₊₁)·(tₛ − t₁) since then
        self._since = self._area = torch.empty(0)
        # difference of the last step's output from BASE where rows were skipped; the next step gives its step length
        self._moved: Tensor | None = None

    def correct(self, out: Tensor, timestep: Tensor, computes: bool, rows: Tensor | None, is_last: bool) -> Tensor:
        """Return the output, corrected for the rows that computed.

        Args:
            out: output of the model, [R, …].
            timestep: [R] or [1], of the step.
            computes: whether any row computed.
            rows: index of the rows that computed; None if all rows or no rows did.
            is_last: whether the step is the last of the run.
        """
        # a copy, because a sampler may write every timestep into one tensor
        t = timestep.detach().flatten()[:1].to(torch.float32, copy=True)
        if self._moved is not None:
            self._gather(self._moved, self._times[0] - t if self._weights is None else self._weight(-1))
            self._moved = None
        self._times = [t, *self._times[:2]]
        if self.BASE not in self.store:
            if self._weights is not None:
                self._weights = self._weights.to(out.device)  # once per run
            self._since, self._area = t.repeat(len(out)), torch.zeros(len(out), device=out.device)
        corrected = self._subtract_drift(out, rows, is_last) if computes and self.DRIFT in self.store else out
        if computes:
            # a copy, because the sampler may change its tensor in place
            self.store.put(self.BASE, out.clone() if rows is None else out[rows], rows)
            self._since[row_index(rows)] = t
        if not computes or rows is not None:
            self._moved = out.detach() - self.store.get(self.BASE)  # 0 where rows computed
        self._num_steps_done += 1
        return corrected

    def keep_rows(self, rows: Tensor) -> None:
        """Continue with only some rows, int64 [r], renumbered 0..r−1; the store has already dropped the others."""
        if self.BASE in self.store:
            self._since, self._area = self._since[rows], self._area[rows]
        if self._moved is not None:
            self._moved = self._moved[rows]

    def _weight(self, offset: int) -> Tensor:
        """Return the weight [1] of the open step (0) or of the one before it (−1)."""
        assert self._weights is not None
        step = self._num_steps_done + offset
        return self._weights[step : step + 1]

    def _gather(self, moved: Tensor, length: Tensor) -> None:
        """Add what a step with skipped rows moved the latents by, now that its length is known."""
        if self.DRIFT not in self.store:
            self.store.put(self.DRIFT, torch.zeros_like(moved, dtype=torch.float32))
        self.store.put(self.DRIFT, self.store.get(self.DRIFT).addcmul_(moved, over_rows(length, moved)))
        self._area.addcmul_(length, self._times[0] - self._since)

    def _subtract_drift(self, out: Tensor, rows: Tensor | None, is_last: bool) -> Tensor:
        """Return the output minus gain·d / Δt for the rows that computed, and reset their drift."""
        t = self._times[0]
        length = self._step_length(is_last) if self._weights is None else self._weight(0)
        index = row_index(rows)
        line = (self._area[index] / (t - self._since[index])).nan_to_num(0.0, 0.0, 0.0)
        change = out[index].detach() - self.store.get(self.BASE, rows)
        lack = torch.addcmul(-self.store.get(self.DRIFT, rows), change, over_rows(line, change))
        lack *= over_rows((self.gain / length).nan_to_num(0.0, 0.0, 0.0), lack)
        drift = self.store.get(self.DRIFT)
        drift[index] = 0.0
        self.store.put(self.DRIFT, drift)
        self._area[index] = 0.0
        if rows is None:
            return out + lack.to(out.dtype)
        return out.index_add(0, rows, lack.to(out.dtype))

    def _step_length(self, is_last: bool) -> Tensor:
        """Return the length of the open step on a rectified flow, which the model is not told."""
        t, before, *earlier = self._times
        length = t if is_last else before - t
        if earlier and not is_last:
            length = torch.maximum(2 * length - (earlier[0] - before), length / 2)
        return length
