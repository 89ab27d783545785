"""The example of a class that the package does not know runs as it stands in the guide."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/guide/adapters.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_a_transformer_of_ones_own(capsys):
    text = PAGE.read_text(encoding="utf-8")
    section = text.index("## A class that the package does not know")
    blocks = list(BLOCK.finditer(text, section, text.index("\n## ", section + 1)))
    assert len(blocks) == 4
    page = {"__name__": "guide"}
    for block in blocks:
        code = compile("\n" * (text.count("\n", 0, block.start(1))) + block.group(1), str(PAGE), "exec")
        exec(code, page)
    computed = re.fullmatch(r"\[(\d+), (\d+)\] of 12 steps\n", capsys.readouterr().out)
    assert computed and all(2 < int(number) < 12 for number in computed.groups())
    assert not page["torch"].equal(page["cached"], page["plain"])
