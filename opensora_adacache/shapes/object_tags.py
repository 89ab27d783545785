"""Teaches the text encoder which object each word belongs to.

Rectified flow alone does not teach the text encoder the order of words: it sees "red" and "blue", and the transformer
guesses which side of the frame is which. For this reason, linear heads must predict, from each word that names an
object's colour or shape, the place, colour and shape of that object. The heads are used in training only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from opensora_adacache.shapes.captions import NUM_PARAPHRASES, write_caption
from opensora_adacache.shapes.progress import descend
from opensora_adacache.shapes.scene import COLOURS, SHAPES, SceneSpec
from opensora_adacache.shapes.tokenizer import TEXT_CHANNELS, encode_captions

_PLACES = {None: ("alone",), "above": ("upper", "lower"), "beside": ("left", "right")}
PLACES = tuple(place for places in _PLACES.values() for place in places)
_SIZES = (len(PLACES), len(COLOURS), len(SHAPES))


class ObjectTags(nn.Module):
    """Linear heads from the features of one word to the place, the colour and the shape of its object."""

    object_words: Tensor

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.heads = nn.Linear(TEXT_CHANNELS, sum(_SIZES))
        words = torch.tensor(tokenizer.convert_tokens_to_ids([*COLOURS, *SHAPES]))
        self.register_buffer("object_words", words, persistent=False)

    def forward(self, features: Tensor, tokens: Tensor, specs: list[SceneSpec]) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of the three tags, summed over tags, and the fraction of correct places.

        Args:
            features: [B, L, D] of the text encoder.
            tokens: [B, L], the words that the features belong to.
            specs: what each caption says.
        """
        named = torch.isin(tokens, self.object_words)
        row, column = named.nonzero(as_tuple=True)
        # A caption names its objects one after the other, each with two words.
        which = ((named.cumsum(1) - 1) // 2)[row, column]
        targets = _targets(specs)[row, which]
        scores = self.heads(features[row, column]).split(_SIZES, dim=1)
        losses = [functional.cross_entropy(score, targets[:, tag]) for tag, score in enumerate(scores)]
        return torch.stack(losses).sum(), (scores[0].argmax(1) == targets[:, 0]).float().mean()


def _targets(specs: list[SceneSpec]) -> Tensor:
    """Return place, colour and shape of up to two objects per caption, [B, 2, 3]; -1 where there is no object."""
    targets = torch.full((len(specs), 2, 3), -1)
    for number, spec in enumerate(specs):
        places = _PLACES[spec.arrangement]
        for index, (place, thing) in enumerate(zip(places, spec.objects, strict=True)):
            tags = (PLACES.index(place), list(COLOURS).index(thing.colour), SHAPES.index(thing.shape))
            targets[number, index] = torch.tensor(tags)
    return targets


def learn_tags(
    tags: ObjectTags,
    text_encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    specs: list[SceneSpec],
    steps: int,
    seed: int,
) -> float:
    """Train heads and text encoder on captions only; return the fraction of correct places in the last 20 steps."""
    trained = nn.ModuleList([tags, text_encoder])
    optimizer = torch.optim.AdamW(trained.parameters(), 1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 4 * (steps - step) / steps))
    shares = []
    for step in range(steps):
        draws = np.random.default_rng([seed, step])
        chosen = [specs[i] for i in draws.integers(len(specs), size=128)]
        captions = [write_caption(spec, int(draws.integers(NUM_PARAPHRASES))) for spec in chosen]
        features, _, tokens = encode_captions(tokenizer, text_encoder, captions)
        loss, right = tags(features, tokens, chosen)
        descend(loss, trained, optimizer, schedule)
        shares.append(right.item())
    return float(np.mean(shares[-20:]))
