"""The documentation site: the check of its links, and what its reference must name."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import opensora_adacache
from opensora_adacache import models, schedulers
from opensora_adacache.caching.registry import POLICIES

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts/site"
CHECK = runpy.run_path(str(SCRIPTS / "check.py"))
NAMED = re.compile(r"^::: (\S+)$", re.MULTILINE)


def problems(folder, **pages):
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return CHECK["check_site"](folder)


def test_a_good_site_has_no_problems(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text('<a href="../one.html#here">', encoding="utf-8")
    one = '<h1 id="here"></h1><a href="sub/"></a><a href="https://example.org"></a><img src="data:image/png;base64,">'
    assert problems(tmp_path, one=one) == []


@pytest.mark.parametrize(
    "link, problem",
    [
        ('<a href="two.html">', "one.html: two.html leads to no file"),
        ('<a href="#there">', "one.html: #there leads to no anchor"),
        ('<a href="../x">', "one.html: ../x leads out of the site"),
        ('<img src="https://a.org/b.png">', "one.html: loads https://a.org/b.png from another server"),
        ('<script src="//a.org/b.js"></script>', "one.html: loads //a.org/b.js from another server"),
        ('<p style="background: url(https://a.org/c)">', "one.html: loads https://a.org/c from another server"),
        ("<style>@import 'https://a.org/d'</style>", "one.html: loads https://a.org/d from another server"),
    ],
)
def test_a_problem_is_found(link, problem, tmp_path):
    assert problems(tmp_path, one=link) == [problem]


def test_a_style_sheet_that_loads_from_elsewhere_is_found(tmp_path):
    (tmp_path / "a.css").write_text("p {background: url('https://a.org/e')}", encoding="utf-8")
    assert problems(tmp_path) == ["a.css: loads https://a.org/e from another server"]


def test_the_reference_names_every_public_object():
    pages = (ROOT / "docs/reference").glob("*.md")
    named = {path for page in pages for path in NAMED.findall(page.read_text(encoding="utf-8"))}
    public = {name.replace(":", ".") for name in POLICIES.values()}
    for package in (opensora_adacache, models):
        public |= {f"{module}.{name}" for name, module in package._HOMES.items()}
    public |= {f"{getattr(schedulers, name).__module__}.{name}" for name in schedulers.__all__}
    public = {name.replace("adapters.apply_cache", "adapters.attach.apply_cache") for name in public}
    assert not {name for name in public if name not in named and name.rpartition(".")[0] not in named}


def test_links_out_of_docs_lead_to_copies():
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    hooks = runpy.run_path(str(SCRIPTS / "hooks.py"))
    assert hooks["repository_path"]("guide/a.md", "../../assets/b.svg") == "assets/b.svg"
    assert hooks["repository_path"]("repository/CONTRIBUTING.md", "docs/a.md#b") == "docs/a.md"
    assert hooks["repository_path"]("guide/a.md", "https://a.org") is None
    assert hooks["site_path"]("assets/b.svg") == "repository/assets/b.svg"
    assert hooks["site_path"]("docs/guide/a.md") == "guide/a.md"
    assert hooks["links"]("[a](b.md#c), `[d](e)`\n```\n[f](g)\n```\n") == ["b.md#c"]
