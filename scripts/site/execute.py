"""Execute notebooks and save them with what they print: ``python scripts/site/execute.py NOTEBOOK.ipynb …``.

Each one runs in an empty folder of its own. Only printed text is kept, without counts and times, so that a notebook
changes when its results do.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode


def execute(path: Path, folder: Path) -> NotebookNode:
    """Return a notebook with what it prints when it runs in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
            cell.outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
            cell.execution_count = None
    return notebook


def main(paths: list[str]) -> int:
    """Execute the notebooks and save them."""
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        nbformat.write(notebook, path)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
