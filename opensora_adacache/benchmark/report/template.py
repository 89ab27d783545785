"""Render self-contained pages from the templates in this folder."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Render a template. Texts are escaped for HTML."""
    environment = Environment(
        loader=PackageLoader("opensora_adacache.benchmark.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def data_uri(media_type: str, data: bytes) -> str:
    """Return data as a ``data:`` URI.

    >>> data_uri("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{media_type};base64," + base64.b64encode(data).decode()
