"""The parts of the bundled model that are trained together, and the average of their weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from opensora_adacache.models.stdit3 import STDiT3
from opensora_adacache.scenes.patches import PatchHeads
from opensora_adacache.scenes.structure import TRANSFORMER
from opensora_adacache.scenes.text import Tags, build_text_encoder
from opensora_adacache.scenes.words import FPS


class Generator(nn.Module):
    """The parts trained together: transformer, text encoder, and the heads that tell both what clips show."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder()
        self.tags = Tags()
        self.patches = PatchHeads(TRANSFORMER.hidden_size)
        self.transformer = STDiT3(TRANSFORMER)

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, L, D] and the mask [B, L] for tokens [B, L]."""
        mask = (tokens > 0).long()
        # With the plain mask, transformers would ask the device whether there is padding, and wait for the answer.
        hidden = ((1 - mask) * -1e9)[:, None, None].expand(-1, -1, tokens.shape[1], -1)
        return self.text_encoder(input_ids=tokens, attention_mask=hidden).last_hidden_state, mask

    def velocity(
        self, z: Tensor, timestep: Tensor, y: Tensor, mask: Tensor, size: int, x_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the predicted velocity in the shape of z, and the features [B, T·S, C] in the middle of the blocks."""
        rows, features = torch.ones_like(timestep), []
        middle = self.transformer.temporal_blocks[TRANSFORMER.depth // 2 - 1]
        hook = middle.register_forward_hook(lambda block, inputs, x: features.append(x))
        try:
            out = self.transformer(
                z,
                timestep,
                y[:, None],
                mask=mask,
                x_mask=x_mask,
                fps=rows * FPS,
                height=rows * size,
                width=rows * size,
            )
        finally:
            hook.remove()
        return out[:, : z.shape[1]], features[0]


class Average:
    """Exponential moving average of the parameters of a module."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}
        self.present: list[Tensor] = list(module.parameters())
        self.decay = decay
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the current values; early averages forget faster."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(list(self.values.values()), self.present, 1 - decay)

    def copy(self) -> Generator:
        """Return a generator with the averaged weights, for sampling, on the CPU."""
        model = Generator()
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(self.values[name])
        return model.eval().requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)
