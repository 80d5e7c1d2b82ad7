"""The notebooks run from their first cell to their last, and show what they say."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

import notebooks
from initstudy.config.paths import CONF

FILES = sorted((CONF.parent / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 300_000
STUDIES = ("audit_and_repair", "own_model_and_data")


def texts(notebook):
    """What the cells show as plain text, in order."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            shown.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(shown)


def bars(notebook):
    """The rows of progress that the cells show, at the end of their training."""
    return re.findall(r"(\d+)/(\d+) runs.*━.*steps", texts(notebook))


def test_there_are_three():
    assert [file.stem for file in FILES] == ["audit_and_repair", "own_loop", "own_model_and_data"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_saved_is_small_and_was_run_from_top_to_bottom(file):
    assert file.stat().st_size < LARGEST
    saved = nbformat.read(file, as_version=4)
    nbformat.validate(saved)
    counts = [cell.execution_count for cell in saved.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert str(Path.home()) not in file.read_text()
    assert ("error" in {o.output_type for c in saved.cells for o in c.get("outputs", ())}) is False
    if file.stem in STUDIES:
        ((done, all_of_them),) = bars(saved)
        assert done == all_of_them


# Jupyter's own messages to its kernels are not under test.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_runs_and_shows_what_is_saved(file, tmp_path):
    executed = notebooks.execute(file, tmp_path)
    saved = nbformat.read(file, as_version=4)
    if file.stem in STUDIES:
        assert bars(executed) == bars(saved) != []
    verdicts = r"PASS|REFUTED|UNDECIDED|FAIL"
    assert re.findall(verdicts, texts(executed)) == re.findall(verdicts, texts(saved))
    kinds = [
        [[output.output_type for output in cell.get("outputs", ())] for cell in each.cells]
        for each in (executed, saved)
    ]
    assert kinds[0] == kinds[1]
    (study,) = (tmp_path / "runs").iterdir()
    assert (study / "store").is_dir()
