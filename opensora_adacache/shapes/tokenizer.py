"""The small text side of the bundled model: a word-level tokenizer and a T5 encoder to train with the rest."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from opensora_adacache.shapes.captions import vocabulary

MAX_TOKENS = 32
TEXT_CHANNELS = 64


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the grammar's words, ending every caption with ``</s>`` as T5's does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", *vocabulary()]
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


def encode_captions(
    tokenizer: PreTrainedTokenizerFast, text_encoder: T5EncoderModel, captions: list[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features [B, L, D], the mask [B, L] and the tokens [B, L] of captions, with gradients."""
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    out = text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    return out.last_hidden_state, tokens.attention_mask, tokens.input_ids


def build_text_encoder(vocabulary_size: int) -> T5EncoderModel:
    """Return an untrained two-layer T5 encoder with ``TEXT_CHANNELS`` features."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary_size,
            d_model=TEXT_CHANNELS,
            d_kv=16,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )
