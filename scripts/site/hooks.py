"""What MkDocs does with the pages of docs/ besides rendering them.

The pages are written for GitHub. Here their links to files outside docs/ lead to copies in the site's folder
``repository``, and each notebook becomes a page with the outputs that it was saved with.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = "repository"
"""Folder of the site for files of the repository that pages link to."""
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and the files outside docs/ that pages link to."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            notebook = json.loads(file.content_string)
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            files.append(File.generated(config, page, content=as_markdown(notebook, Path(file.src_uri).name)))
    root = Path(config.docs_dir).parent
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for target in links(page.content_string):
            path = repository_path(page.src_uri, target)
            if path is None or path.startswith("docs/") or files.get_file_from_path(site_path(path)) is not None:
                continue
            if not (root / path).is_file():
                raise PluginError(f"{page.src_uri} links to '{path}', which is no file of the repository")
            files.append(File.generated(config, site_path(path), abs_src_path=str(root / path)))
            if path.endswith(".md"):
                waiting.append(files.src_uris[site_path(path)])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to notebooks to their pages, and links out of docs/ to the copies."""
    here = page.file.src_uri

    def led(match: re.Match[str]) -> str:
        target = match.group()
        path = repository_path(here, target)
        if path is None or target == Path(here).with_suffix(".ipynb").name:  # the notebook itself, to download
            return target
        _, mark, anchor = target.partition("#")
        found = site_path(re.sub(r"\.ipynb$", ".md", path))
        return posixpath.relpath(found, posixpath.dirname(here) or ".") + mark + anchor

    pieces, end = [], 0
    for code in CODE.finditer(markdown):
        pieces += [LINK.sub(led, markdown[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*pieces, LINK.sub(led, markdown[end:])])


def links(markdown: str) -> list[str]:
    """Return the targets of the links of a page.

    >>> links("[a](b.md#c) and `[d](e)`")
    ['b.md#c']
    """
    return LINK.findall(CODE.sub("", markdown))


def repository_path(page: str, target: str) -> str | None:
    """Return the path in the repository that a link of the site's page leads to; None if it leads elsewhere.

    >>> repository_path("guide/adapters.md", "../../assets/branches.svg")
    'assets/branches.svg'
    >>> repository_path("repository/CONTRIBUTING.md", "docs/guide/policies.md#which")
    'docs/guide/policies.md'
    """
    name = target.partition("#")[0]
    if "://" in target or not name:
        return None
    here = page.removeprefix(f"{OUTSIDE}/") if page.startswith(f"{OUTSIDE}/") else f"docs/{page}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), name))


def site_path(path: str) -> str:
    """Return where the site has a file of the repository.

    >>> site_path("docs/index.md"), site_path("assets/branches.svg")
    ('index.md', 'repository/assets/branches.svg')
    """
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{OUTSIDE}/{path}"


def as_markdown(notebook: dict[str, Any], name: str) -> str:
    """Return a notebook as a page: text as it is, code and the text that it printed as blocks of code."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(output.get("text", ())) for output in cell["outputs"])
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
    title, *rest = parts
    heading, _, introduction = title.partition("\n")
    download = f"[Download this page as a notebook]({name})"
    return "\n\n".join([heading, introduction.strip(), download, *rest]) + "\n"
