"""A computed step takes back part of what the skipped steps before it moved the latents wrongly.

R rows of a batch; v is the model's output, t the timestep.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore, over_rows, row_index


class Corrector:
    """Output at the last computed step of each row, and how far skipped steps have moved away from it since.

    A sampler that takes Euler steps along a rectified flow moves the latents by (tₛ − tₛ₊₁)·v at step s. Once a
    computed step at t has the true output v, those of the skipped steps since t₁ are known better than they were
    forecast: they lie about on the line from v₁ to v. So the latents are off by

        d = Σ (tₛ − tₛ₊₁)·(v̂ₛ − v₁ − (tₛ − t₁)/(t − t₁)·(v − v₁))

    over the skipped steps, and the output becomes v − gain·d / Δt, which moves them back by gain·d in this step, of
    length Δt. Samplers that do not move by (tₛ − tₛ₊₁)·v must do without: DDIM, and those that reuse outputs of earlier
    steps, such as DPM++ 2M or UniPC.

    Ours. Correcting the latents with an output that was computed anyway is UniPC's idea (arXiv 2302.04867), which does
    it inside of a sampler; here the sampler knows nothing of it. A gain below 1, because v was computed at latents
    that were off, and goes on to be forecast from.

    The length of this step is not known to a model: it is taken from the two before it on a line, and is t at the
    last. A frame that the sampler begins to generate within a stretch of skipped steps is corrected for all of it.

    Args:
        store: where the two tensors of the output's shape are kept.
        gain: the share that is taken back, above 0 and below 1.
    """

    BASE = "output at the last computed step"
    DRIFT = "drift since the last computed step"

    def __init__(self, store: ResidualStore, gain: float) -> None:
        self.store = store
        self.gain = gain
        self._times: list[Tensor] = []  # of the last three steps, the latest first
        # for each row, t₁ of the last computed step and Σ (tₛ − tₛ₊₁)·(tₛ − t₁) since
        self._since = self._area = torch.empty(0)
        # how far the last step's output is from BASE, where rows were skipped; the next step tells how long it was
        self._moved: Tensor | None = None

    def correct(self, out: Tensor, timestep: Tensor, computes: bool, rows: Tensor | None, is_last: bool) -> Tensor:
        """Return the output, for the rows that computed with the correction.

        Args:
            out: of the model, [R, …].
            timestep: [R] or [1], of the step.
            computes: whether any row computed.
            rows: index of the rows that did; None for all of them, or none.
            is_last: whether the step is the last of the run.
        """
        t = timestep.detach().flatten()[:1].float()
        if self._moved is not None:
            self._gather(self._moved, self._times[0] - t)
            self._moved = None
        self._times = [t, *self._times[:2]]
        if self.BASE not in self.store:
            self._since, self._area = t.repeat(len(out)), torch.zeros(len(out), device=out.device)
        corrected = self._take_back(out, rows, is_last) if computes and self.DRIFT in self.store else out
        if computes:
            # a copy: the sampler may change what it gets
            self.store.put(self.BASE, out.clone() if rows is None else out[rows], rows)
            self._since[row_index(rows)] = t
        if not computes or rows is not None:
            self._moved = out.detach() - self.store.get(self.BASE)  # 0 where rows computed
        return corrected

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with some rows only, int64 [r], which are 0..r−1 from now on; the store has dropped the others."""
        if self.BASE in self.store:
            self._since, self._area = self._since[rows], self._area[rows]
        if self._moved is not None:
            self._moved = self._moved[rows]

    def _gather(self, moved: Tensor, length: Tensor) -> None:
        """Add up what a step with skipped rows moved the latents by, now that its length is known."""
        if self.DRIFT not in self.store:
            self.store.put(self.DRIFT, torch.zeros_like(moved, dtype=torch.float32))
        self.store.get(self.DRIFT).addcmul_(moved, over_rows(length, moved))
        self._area.addcmul_(length, self._times[0] - self._since)

    def _take_back(self, out: Tensor, rows: Tensor | None, is_last: bool) -> Tensor:
        """Return the output with gain·d / Δt taken off, for the rows that computed; forget their drift."""
        t, before, *earlier = self._times
        length = t if is_last else before - t
        if earlier and not is_last:
            length = torch.maximum(2 * length - (earlier[0] - before), length / 2)
        index = row_index(rows)
        line = (self._area[index] / (t - self._since[index])).nan_to_num(0.0, 0.0, 0.0)
        change = out[index].detach() - self.store.get(self.BASE, rows)
        lack = torch.addcmul(-self.store.get(self.DRIFT, rows), change, over_rows(line, change))
        lack *= over_rows((self.gain / length).nan_to_num(0.0, 0.0, 0.0), lack)
        self.store.get(self.DRIFT)[index] = 0.0
        self._area[index] = 0.0
        if rows is None:
            return out + lack.to(out.dtype)
        return out.index_add(0, rows, lack.to(out.dtype))
