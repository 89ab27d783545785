"""The tutorial runs: every block of its code, from top to bottom, on a small STDiT3."""

from __future__ import annotations

import re
from pathlib import Path

from opensora_adacache.caching import registry

PAGE = Path(__file__).parents[2] / "docs/guide/write_a_policy.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs(monkeypatch):
    monkeypatch.setattr(registry, "POLICIES", dict(registry.POLICIES))
    text = PAGE.read_text(encoding="utf-8")
    blocks = [(text.count("\n", 0, block.start(1)), block.group(1)) for block in BLOCK.finditer(text)]
    assert len(blocks) > 5
    page = {"__name__": "tutorial"}
    for line, block in blocks:
        code = compile("\n" * line + block, str(PAGE), "exec", dont_inherit=True)  # lines of errors are the page's
        exec(code, page)
    assert registry.POLICIES["InputDrift"] == "my_policies:InputDriftConfig"
