"""Everything is declared in pyproject.toml, except where the configs and prompts lie in an installed package."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Folders of the repository that a wheel holds inside the package, where `opensora_adacache.config.paths` finds them.
DATA = {"configs": ("*.py", "*.json"), "assets": ("*.txt",)}


def data_packages():
    """Return each folder with data as a package, and the patterns of its files."""
    found = {}
    for name, patterns in DATA.items():
        for folder in (ROOT / name, *(ROOT / name).rglob("*")):
            if folder.is_dir() and any(file for pattern in patterns for file in folder.glob(pattern)):
                parts = folder.relative_to(ROOT).parts
                found[".".join(("opensora_adacache", *parts))] = (folder.relative_to(ROOT).as_posix(), list(patterns))
    return found


data = data_packages()
setup(
    packages=[*find_packages(include=["opensora_adacache*"]), *data],
    package_dir={package: folder for package, (folder, _) in data.items()},
    package_data={
        "opensora_adacache": [
            "py.typed",
            "scenes/weights/**/*",
            "app/static/*",
            "app/templates/*.jinja",
            "benchmark/report/*.jinja",
            "benchmark/*.json",
            "presets/data/*.json",
        ],
        **{package: patterns for package, (_, patterns) in data.items()},
    },
)
