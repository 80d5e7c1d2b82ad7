"""Runs the notebooks of docs/notebooks, and saves them with their outputs.

python experiments/notebooks.py [NAME …]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
SECONDS = 600


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook after a run of all its cells.

    Args:
        path: The notebook, which is not changed.
        folder: The working directory of its kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raises an error.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        # When a cell ran is no part of what it shows.
        record_timing=False,
    )
    return client.execute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="without .ipynb; all of them by default")
    names = parser.parse_args().names
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            executed = execute(path, Path(folder))
        nbformat.write(executed, path)
        print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
