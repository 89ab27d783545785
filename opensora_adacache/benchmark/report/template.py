"""Render self-contained pages from the templates in this folder, and others with the same rules."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Render a template. Texts are escaped for HTML."""
    return html_environment("opensora_adacache.benchmark.report", "").get_template(template).render(values)


def html_environment(package: str, folder: str) -> Environment:
    """Return an environment for the HTML templates in a folder of a package; an unknown name is an error."""
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(media_type: str, data: bytes) -> str:
    """Return data as a ``data:`` URI.

    >>> data_uri("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{media_type};base64," + base64.b64encode(data).decode()
