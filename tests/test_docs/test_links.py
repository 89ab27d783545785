"""What README and documentation point to exists: links, their anchors, and paths in code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += [page for folder in ("docs", "integrations") for page in sorted((ROOT / folder).rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FOLDERS = ("assets", "configs", "docs", "integrations", "opensora_adacache", "scripts", "tests")
"""A word in code is a path of the repository where it begins with one of these."""
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*{{}},-]*[\w*}}]")
INSIDE = re.compile(
    r"(?:adapters|benchmark|caching|calibration|config|costs|generation|media|metrics|scenes)/[\w/]+\.py"
)
NEW = re.compile(r"(?<![a-z])my_\w+")
"""A path with such a name is one that the reader is to make."""
CREATED = ("docs/reference", "scripts/constant.py")
"""A folder that a command writes, and a file of another project."""
EARLIER = re.compile(r"made at\s+commit [0-9a-f]{7}")
"""A page with figures that were made at a commit names paths of that commit."""


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in LINK.findall(text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_paths_in_code_exist(page):
    text = page.read_text(encoding="utf-8")
    code = [*CODE.findall(FENCED.sub("", text)), *FENCED.findall(text)]
    if EARLIER.search(text):
        return
    missing = []
    for path in {path for piece in code for path in PATH.findall(piece)}:
        if not (NEW.search(path) or path.startswith(CREATED) or any(matches(path))):
            missing.append(path)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_modules_named_without_the_package_exist(page):
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    named = {match for piece in CODE.findall(text) for match in [piece] if INSIDE.fullmatch(piece)}
    assert not [name for name in named if not NEW.search(name) and not (ROOT / "opensora_adacache" / name).exists()]


def matches(path: str) -> list[Path]:
    """Return what a path names: with `*` any, with `{a,b}` each alternative (all must exist)."""
    choice = re.search(r"\{([^}]*)\}", path)
    if choice:
        each = [matches(path.replace(choice.group(), name)) for name in choice.group(1).split(",")]
        return [found for one in each for found in one] if all(each) else []
    return list(ROOT.glob(path.rstrip("/")))


def test_every_page_is_reachable_from_the_index():
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in LINK.findall(text)}
    for page in list(linked):
        if page.suffix == ".md" and page.exists():
            targets = LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
            linked |= {(page.parent / target.partition("#")[0]).resolve() for target in targets if "://" not in target}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page.name != "index.md"}
    assert not {page_id(page) for page in pages - linked}
