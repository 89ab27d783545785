"""The text part of the bundled model: a word-level tokenizer, a T5 encoder, and heads that keep it aware of order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from opensora_adacache.scenes.captions import split_words, vocabulary
from opensora_adacache.scenes.spec import Specs
from opensora_adacache.scenes.words import COLOURS, DIRECTIONS, GROUNDS, KINDS, LAYOUTS, SHAPES, SPEEDS, TEXTURES

MAX_TOKENS = 40
TEXT_CHANNELS = 96
_SPECIAL = ("<pad>", "</s>", "<unk>")
# The role of an object in its scene: one per layout and position, and those of orbits and passes.
_ROLES = 17


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer for the words of captions that ends every caption with ``</s>``, like T5's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [*_SPECIAL, *vocabulary()]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
        padding_side="right",
    )


def build_text_encoder() -> T5EncoderModel:
    """Return an untrained three-layer T5 encoder with ``TEXT_CHANNELS`` features."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(_SPECIAL) + len(vocabulary()),
            d_model=TEXT_CHANNELS,
            d_kv=16,
            d_ff=256,
            num_layers=3,
            num_heads=6,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
            attn_implementation="eager",  # type: ignore[call-arg]  # takes the mask that `Generator.read` builds
        )
    )


class Tokens:
    """Converts captions to rows of token ids; gives the tokenizer's result, but faster for many captions."""

    def __init__(self) -> None:
        self.numbers = {word: number for number, word in enumerate([*_SPECIAL, *vocabulary()])}

    def __call__(self, captions: list[str]) -> np.ndarray:
        """Return tokens [N, MAX_TOKENS] int64, padded with 0."""
        rows = np.zeros((len(captions), MAX_TOKENS), np.int64)
        for row, caption in enumerate(captions):
            numbers = [self.numbers[word] for word in split_words(caption)][: MAX_TOKENS - 1]
            rows[row, : len(numbers)] = numbers
            rows[row, len(numbers)] = 1
        return rows


def roles(specs: Specs) -> np.ndarray:
    """Return the role of each object in its scene, [N, K] in 0..16; -1 where there is no object."""
    count, slot = specs.count[:, None], np.arange(specs.colours.shape[1])
    above, beside = (specs.layout[:, None] == LAYOUTS.index(name) for name in ("above", "beside"))
    role = np.zeros(specs.colours.shape, int)
    role = np.where(above, np.where(count == 2, 1, 3) + slot, role)
    role = np.where(beside, np.where(count == 2, 6, 8) + slot, role)
    role = np.where((specs.kind[:, None] == KINDS.index("orbit")) & (count == 2), 11 + slot, role)
    role = np.where(specs.kind[:, None] == KINDS.index("pass"), 13 + slot + 2 * specs.behind[:, None], role)
    return np.where(slot < count, role, -1)


def tag_targets(specs: Specs) -> tuple[np.ndarray, np.ndarray]:
    """Return what captions say about each object (role, colour, shape) [N, K, 3] and about the clip [N, 5]."""
    things = np.stack([roles(specs), specs.colours, specs.shapes], -1)
    clip = np.stack([specs.kind, specs.speed + 1, specs.direction + 1, specs.ground, specs.texture], -1)
    return things, clip


class Tags(nn.Module):
    """Linear heads that predict what a caption says from its features.

    From each word that names an object's colour or shape, they predict the role, colour and shape of that object; from
    the last token, the kind of motion, speed, direction, background and texture. With rectified flow alone, the text
    encoder ignores the order of words for a long time. The heads are used in training only.
    """

    object_words: Tensor
    sizes = (_ROLES, len(COLOURS), len(SHAPES))
    clip_sizes = (len(KINDS), len(SPEEDS) + 1, len(DIRECTIONS) + 1, len(GROUNDS), len(TEXTURES))

    def __init__(self) -> None:
        super().__init__()
        self.things = nn.Linear(TEXT_CHANNELS, sum(self.sizes))
        self.clip = nn.Linear(TEXT_CHANNELS, sum(self.clip_sizes))
        numbers = Tokens().numbers
        self.register_buffer(
            "object_words", torch.tensor([numbers[word] for word in (*COLOURS, *SHAPES)]), persistent=False
        )

    def forward(self, features: Tensor, tokens: Tensor, things: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the mean cross-entropies and the fraction of correct roles.

        Args:
            features: [B, L, D] of the text encoder.
            tokens: [B, L].
            things: [B, K, 3] targets, -1 where there is no object.
            clip: [B, 5] targets.
        """
        named = torch.isin(tokens, self.object_words)
        # A caption names its objects one after the other, each with two words. Shapes are static: no device reads.
        slot = ((named.cumsum(1) - 1).clamp(min=0) // 2).clamp(max=things.shape[1] - 1)
        targets = things.gather(1, slot[..., None].expand(-1, -1, things.shape[2]))
        targets = torch.where(named[..., None], targets, -1)
        scores = self.things(features).float().split(self.sizes, dim=-1)
        losses = [
            functional.cross_entropy(score.flatten(0, 1), targets[..., tag].flatten(), ignore_index=-1)
            for tag, score in enumerate(scores)
        ]
        last = (tokens == 1).int().argmax(1)
        end = features[torch.arange(len(features), device=features.device), last]
        losses += [
            functional.cross_entropy(score, clip[:, tag])
            for tag, score in enumerate(self.clip(end).float().split(self.clip_sizes, dim=-1))
        ]
        right = ((scores[0].argmax(-1) == targets[..., 0]) & named).sum() / named.sum()
        return torch.stack(losses).sum(), right
