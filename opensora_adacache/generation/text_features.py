"""Text features of a run's prompts, kept so that the text encoder can be freed before the transformer is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from opensora_adacache.caching.team import Team

if TYPE_CHECKING:
    from torch import Tensor

    from opensora_adacache.schedulers.rectified_flow import TextEncoder


class TextFeatures:
    """Stands in for a text encoder and returns features of texts that were encoded before.

    Each text is encoded separately, so that its features do not depend on other texts. They are kept on the CPU.

    Args:
        encoder: text encoder, which still returns the null features.
        texts: texts to encode.
        team: processes that need them; the first one encodes.
    """

    def __init__(self, encoder: TextEncoder, texts: Iterable[str], team: Team = Team()) -> None:  # noqa: B008
        self._encoder = encoder
        self._features: dict[str, dict[str, Tensor]] = {}
        for text in texts if team.leads else ():
            if text not in self._features:
                encoded = encoder.encode([text])
                self._features[text] = {name: value.cpu() for name, value in encoded.items()}
        self._features = team.share(self._features)

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Return ``{"y": [B, 1, L, C], "mask": [B, L]}`` of B texts that were encoded before."""
        features = [self._features[prompt] for prompt in prompts]
        return {name: torch.cat([single[name] for single in features]) for name in ("y", "mask")}

    def null(self, n: int) -> Tensor:
        """Return the null text features of guidance, [n, 1, L, C]."""
        return self._encoder.null(n)


class NoTextEncoder:
    """Stands in for the text encoder on processes that receive text features from the first one of their team."""

    def __init__(self) -> None:
        self._null: Tensor | None = None

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Raise RuntimeError."""
        raise RuntimeError("the text encoder is on the first process of the team")

    def attach_null(self, embedding: Tensor) -> None:
        """Store the null text features [L, C], which belong to the transformer."""
        self._null = embedding

    def null(self, n: int) -> Tensor:
        """Return the null text features of guidance, [n, 1, L, C]."""
        assert self._null is not None
        return self._null[None, None].repeat(n, 1, 1, 1)

    def release(self) -> None:
        """Do nothing: there are no weights."""
