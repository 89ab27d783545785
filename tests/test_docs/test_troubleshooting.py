"""The troubleshooting page quotes messages that the package really gives."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/guide/troubleshooting.md"
ANY = "…"
QUOTED = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def texts(tree: ast.AST) -> list[str]:
    """Return every string of a module, with what it fills in as `ANY`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Every string of the package."""
    files = sorted((ROOT / "opensora_adacache").rglob("*.py"))
    return [text for file in files for text in texts(ast.parse(file.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_message_is_one_of_the_package(quoted, messages):
    pattern = re.compile(".+?".join(re.escape(part) for part in quoted.split(ANY)))
    assert any(pattern.search(text) for text in messages)


def test_the_page_quotes_messages():
    assert len(QUOTED) > 20
