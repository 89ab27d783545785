"""Small text encoders with random weights, of the classes that published pipelines have, with one tokenizer for all."""

from __future__ import annotations

from typing import Any

TEXT_LENGTH, TEXT_WIDTH = 16, 16
# Roles are dropped: the tokenizer has no words for them.
_CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def t5_encoder() -> tuple[Any, Any]:
    """Return a tokenizer and a `T5EncoderModel`."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = _tokenizer()
    return tokenizer, T5EncoderModel(T5Config(**_t5_sizes(len(tokenizer))))


def umt5_encoder() -> tuple[Any, Any]:
    """Return a tokenizer and a `UMT5EncoderModel`."""
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = _tokenizer()
    return tokenizer, UMT5EncoderModel(UMT5Config(**_t5_sizes(len(tokenizer))))


def byt5_encoder() -> tuple[Any, Any]:
    """Return a `ByT5Tokenizer`, which needs no vocabulary, and a `T5EncoderModel`."""
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    tokenizer = ByT5Tokenizer()
    return tokenizer, T5EncoderModel(T5Config(**_t5_sizes(len(tokenizer))))


def llama_encoder() -> tuple[Any, Any]:
    """Return a tokenizer and a `LlamaModel` with enough layers for a pipeline that skips the last two."""
    from transformers import LlamaConfig, LlamaModel

    tokenizer = _tokenizer()
    return tokenizer, LlamaModel(LlamaConfig(vocab_size=len(tokenizer), **_decoder_sizes()))


def qwen_encoder() -> tuple[Any, Any]:
    """Return a tokenizer and a `Qwen2_5_VLTextModel` with enough layers for a pipeline that skips the last two."""
    from transformers import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

    tokenizer = _tokenizer()
    tokenizer.chat_template = _CHAT
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2]}
    sizes = {**_decoder_sizes(), "rope_scaling": rope}
    config = Qwen2_5_VLTextConfig(vocab_size=len(tokenizer), **sizes)
    return tokenizer, Qwen2_5_VLTextModel(config)


def gemma_encoder() -> tuple[Any, Any]:
    """Return a tokenizer and a `Gemma3ForConditionalGeneration`, whose vision part no text reaches."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    tokenizer = _tokenizer()
    text = {**_decoder_sizes(), "vocab_size": len(tokenizer), "head_dim": 8, "num_hidden_layers": 2}
    vision = {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=0)
    return tokenizer, Gemma3ForConditionalGeneration(config)


def clip_encoder() -> tuple[Any, Any]:
    """Return a tokenizer and a `CLIPTextModel`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = _tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return tokenizer, CLIPTextModel(config)


def _tokenizer() -> Any:
    from opensora_adacache.scenes.text import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.model_max_length = TEXT_LENGTH
    return tokenizer


def _t5_sizes(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "d_model": TEXT_WIDTH,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
    }


def _decoder_sizes() -> dict[str, Any]:
    return {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
