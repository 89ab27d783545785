"""The state of the house: rooms, circles of imports, lengths, and policies that nobody outside asks for by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

from opensora_adacache.caching.registry import POLICIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "opensora_adacache"
FILES = sorted(PACKAGE.rglob("*.py"))
INTEGRATIONS = sorted((ROOT / "integrations").rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path, modules):
    """Return the modules of the package that a file imports anywhere: in functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    # a package's own __init__ may import from its modules, and they from one another
    me = module_of(path)
    return {name for name in found & modules if name != me and not me.startswith(f"{name}.")}


def circles(graph):
    """Return the modules that can reach themselves."""
    reach = {name: set(targets) for name, targets in graph.items()}
    changed = True
    while changed:
        changed = False
        for targets in reach.values():
            further = set().union(*(reach[name] for name in targets)) if targets else set()
            if not further <= targets:
                targets |= further
                changed = True
    return {name for name, targets in reach.items() if name in targets}


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


def test_no_circle_of_imports():
    modules = {module_of(path) for path in FILES}
    assert not circles({module_of(path): imports_of(path, modules) for path in FILES})


def test_no_module_at_the_root():
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py"}


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES + INTEGRATIONS}
    assert not {str(path): length for path, length in lengths.items() if length > 400}
    assert median(length for path, length in lengths.items() if path.name != "__init__.py") < 130


def test_nobody_outside_caching_asks_for_a_policy_by_name():
    names = "|".join(path.partition(":")[2] for path in POLICIES.values())
    asks = re.compile(rf"isinstance\([^)]*\b({names})\b")
    outside = [path for path in FILES if "caching" not in path.relative_to(PACKAGE).parts]
    assert not [str(path) for path in outside if asks.search(path.read_text(encoding="utf-8"))]
