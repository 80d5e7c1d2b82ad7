"""What is drawn and decided from results loads no torch: it takes seconds, and trains nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "initstudy"


def modules(room):
    """All modules of a room, by the names under which they are imported."""
    for file in sorted((PACKAGE / room).rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            yield name


@pytest.mark.parametrize("room", ["store", "claims", "report", "tracking"])
def test_reading_and_drawing_results_loads_no_torch(room):
    names = list(modules(room))
    assert f"initstudy.{room}" in names
    code = f"""
import sys, warnings
# wandb-workspaces warns of pydantic's deprecations when it is imported.
warnings.simplefilter("ignore", DeprecationWarning)
import {", ".join(names)}
import initstudy.columns
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch was loaded"


def test_a_report_is_written_without_torch(tmp_path):
    from tests.synthetic import save, sweep

    save(sweep(stds=[0.01, 0.1, 1.0]), tmp_path)
    code = f"""
import sys
from initstudy.report import write
write({str(tmp_path)!r}, formats=["html"])
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch was loaded"
    assert (tmp_path / "report/index.html").exists()
