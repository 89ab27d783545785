"""Check a built site: ``python scripts/site/check.py SITE``.

Every link within the site must lead to a file and an anchor that exist, and no page may load anything from another
server. Links that a reader may follow to other sites are left alone.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("video", "src"), ("source", "src")}
"""Attributes that a browser loads without being asked."""
NAMED = {"canonical", "prev", "next", "alternate"}
"""Kinds of `link` elements that only name an address."""
STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class PageLinks(HTMLParser):
    """Collects what a page links to, what it loads, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self._in_style = tag == "style"
        self.loaded += _styled(values.get("style", ""))
        if tag == "a" and "href" in values:
            self.followed.append(values["href"])
        if tag == "link" and set(values.get("rel", "").split()) & NAMED:
            return
        self.loaded += [value for name, value in values.items() if (tag, name) in LOADED]

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += _styled(data)


def check_site(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere and each request to another server."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        name = path.relative_to(site)
        for target in dict.fromkeys([*page.followed, *page.loaded]):
            parts = urlsplit(target)
            if parts.scheme in ("data", "mailto", "blob"):
                continue
            if parts.scheme or parts.netloc:
                if target in page.loaded:
                    problems.append(f"{name}: loads {target} from another server")
                continue
            problem = _lead(site, path, unquote(parts.path), unquote(parts.fragment), pages)
            if problem:
                problems.append(f"{name}: {target} {problem}")
    for path in sorted(site.rglob("*.css")):
        for target in _styled(path.read_text(encoding="utf-8")):
            if urlsplit(target).netloc:
                problems.append(f"{path.relative_to(site)}: loads {target} from another server")
    return problems


def _lead(site: Path, page: Path, target: str, anchor: str, pages: dict[Path, PageLinks]) -> str | None:
    """Return what is wrong with a link within the site."""
    base = site if target.startswith("/") else page.parent
    found = (base / target.lstrip("/")).resolve() if target else page
    if found.is_dir():
        found /= "index.html"
    if not found.is_relative_to(site):
        return "leads out of the site"
    if not found.is_file():
        return "leads to no file"
    if anchor and found in pages and anchor not in pages[found].anchors and not anchor.startswith("__"):
        return "leads to no anchor"
    return None


def _read(path: Path) -> PageLinks:
    page = PageLinks()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _styled(text: str) -> list[str]:
    return [first or second for first, second in STYLE.findall(text)]


def main(arguments: list[str]) -> int:
    """Print the problems of a site; return 1 if there are any."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("expected the folder of a built site: python scripts/site/check.py SITE", file=sys.stderr)
        return 2
    site = Path(arguments[0]).resolve()
    problems = check_site(site)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(list(site.rglob('*.html')))} pages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
