"""Cleans prompts in the same way as the captions that the text encoder was trained on."""

from __future__ import annotations

import warnings
from typing import Any

from opensora_adacache.models.imports import quiet_imports


def clean_prompt(text: str) -> str:
    """Apply the caption cleaning of DeepFloyd IF to `text`, twice as the reference implementation does.

    It converts to lower case; removes links, file names, nicknames, addresses and long numbers; unifies dashes and
    quotes. The rules are those that diffusers ships with its PixArt-alpha pipeline. Importing them takes seconds, so
    the import is delayed until the first prompt.

    Args:
        text: one prompt, without the JSON that may follow it.

    Returns:
        The cleaned prompt; may be empty.
    """
    from bs4 import MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning

    with quiet_imports():
        from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline

    # The method only reads a constant of its class, so the class can be passed as `self` without building a pipeline.
    pipeline: Any = PixArtAlphaPipeline
    with warnings.catch_warnings():
        # It is fine for a prompt to look like a file name, a link or XML.
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        for _ in range(2):
            text = pipeline._clean_caption(pipeline, text)
    return text
