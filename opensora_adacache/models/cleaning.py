"""Clean prompts the way the text encoder's training captions were cleaned."""

from __future__ import annotations

import warnings
from typing import Any

from opensora_adacache.models.imports import quiet_imports


def clean_prompt(text: str) -> str:
    """Apply the caption cleaning of DeepFloyd IF to `text`, twice as the reference does.

    It lowers case; removes links, file names, nicknames, addresses and long numbers; unifies dashes and quotes.
    The rules are those that diffusers ships with its PixArt-alpha pipeline. The import takes seconds, so it waits
    for the first prompt.

    Args:
        text: one prompt, without the JSON that may follow it.

    Returns:
        The cleaned prompt; it may be empty.
    """
    from bs4 import MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning

    with quiet_imports():
        from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline

    # The method reads nothing but a constant of its class, so the class serves as its `self`: no pipeline is built.
    pipeline: Any = PixArtAlphaPipeline
    with warnings.catch_warnings():
        # A prompt that looks like a file name, a link or XML is no mistake here.
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        for _ in range(2):
            text = pipeline._clean_caption(pipeline, text)
    return text
