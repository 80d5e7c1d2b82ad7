"""Every study runs from its script, cut down to a handful of runs of a few steps."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from initstudy.config.paths import CONF

FOLDER = CONF.parent / "experiments"
SCRIPTS = sorted(f for f in FOLDER.glob("*.py") if "from study import" in f.read_text())


def swept(script: Path) -> list[str]:
    """The sweeps that a script names."""
    return [name for name in SWEEPS if f'"+sweep={name}"' in script.read_text()]


def settings(name: str) -> dict:
    """A sweep's file over the one that it starts from."""
    bases = [base for base in SWEEPS[name].get("defaults", []) if str(base) in SWEEPS]
    return {**(settings(bases[0]) if bases else {}), **SWEEPS[name]}


SWEEPS = {file.stem: yaml.safe_load(file.read_text()) for file in (CONF / "sweep").glob("*.yaml")}


def test_every_sweep_has_a_script_and_a_row_in_the_index():
    assert {name for script in SCRIPTS for name in swept(script)} == set(SWEEPS)
    index = runpy.run_path(str(FOLDER / "index.py"))["ENTRIES"]
    assert set(SWEEPS) - {"phase_diagram_full"} == set(index)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_reduced_study_trains_checks_its_claims_and_reports(script, tmp_path, monkeypatch):
    """Whether a claim holds on so few steps is no matter; that it is decided or says why is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", [str(script), "reduced"])
    runpy.run_path(str(script), run_name="__main__")
    for name in swept(script):
        folder = tmp_path / "reports" / f"{name}_reduced"
        said = json.loads((folder / "claims.json").read_text())
        assert {claim["claim"] for claim in said["claims"]} == set(settings(name)["claims"])
        assert all(claim["verdict"] and claim["detail"] for claim in said["claims"])
        assert 2 <= said["runs"] <= 200
        readme = (folder / "README.md").read_text()
        pictures = sorted(f.name for f in (folder / "charts").iterdir())
        assert pictures
        assert all(f"charts/{picture}" in readme for picture in pictures)
        assert settings(name).get("paper", {}).get("source", "") in readme


def test_without_a_name_a_script_says_how_it_is_used(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["he_2015.py"])
    with pytest.raises(SystemExit, match=r"python experiments/he_2015\.py mnist"):
        runpy.run_path(str(FOLDER / "he_2015.py"), run_name="__main__")


def test_a_reduced_sweep_that_is_killed_ends_as_one_that_was_not(tmp_path):
    arguments = ["--kills", "3", "--runs", "6", "--steps", "600", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "faults.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS: nothing lost, nothing doubled, nothing different" in done.stdout
    assert "store: 6 runs, 0 lost, 0 doubled" in done.stdout
