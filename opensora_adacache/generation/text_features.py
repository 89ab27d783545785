"""Text features of a run's prompts, kept so that the text encoder can be freed before the transformer is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from opensora_adacache.schedulers.rectified_flow import TextEncoder


class TextFeatures:
    """Stands in for a text encoder and returns features of texts that were encoded before.

    Each text is encoded separately, so that its features do not depend on other texts. They are kept on the CPU.

    Args:
        encoder: text encoder, which still returns the null features.
        texts: texts to encode.
    """

    def __init__(self, encoder: TextEncoder, texts: Iterable[str]) -> None:
        self._encoder = encoder
        self._features: dict[str, dict[str, Tensor]] = {}
        for text in texts:
            if text not in self._features:
                encoded = encoder.encode([text])
                self._features[text] = {name: value.cpu() for name, value in encoded.items()}

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Return ``{"y": [B, 1, L, C], "mask": [B, L]}`` of B texts that were encoded before."""
        features = [self._features[prompt] for prompt in prompts]
        return {name: torch.cat([single[name] for single in features]) for name in ("y", "mask")}

    def null(self, n: int) -> Tensor:
        """Return the null text features of guidance, [n, 1, L, C]."""
        return self._encoder.null(n)
