"""Writes the bundled model in the published layout: transformer/, vae/, text_encoder/, tokenizer/."""

from __future__ import annotations

import copy
from pathlib import Path

from opensora_adacache.models.text_encoder import T5TextEncoder
from opensora_adacache.models.vae import OpenSoraVAE
from opensora_adacache.scenes.generator import Generator
from opensora_adacache.scenes.text import MAX_TOKENS, build_tokenizer


def export_vae(vae: OpenSoraVAE, target: Path) -> None:
    """Write the VAE in float16, whose range is sufficient and which halves the file."""
    copy.deepcopy(vae).cpu().half().save_pretrained(target / "vae")


def export_generator(model: Generator, target: Path) -> None:
    """Write transformer (in float16), text encoder and tokenizer."""
    T5TextEncoder(model.text_encoder, build_tokenizer(), MAX_TOKENS).save_pretrained(target)
    model.transformer.half().save_pretrained(target / "transformer")
    model.transformer.float()
