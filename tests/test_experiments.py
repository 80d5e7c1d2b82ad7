"""Every study trains and reports, cut down to a handful of runs of a few steps."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import initstudy
from initstudy.config.paths import CONF
from tests.tasks.test_data import fake_mnist

ROOT = CONF.parent
FOLDER = ROOT / "experiments"
SWEEPS = {file.stem: yaml.safe_load(file.read_text()) for file in (CONF / "sweep").glob("*.yaml")}


def settings(name: str) -> dict:
    """A sweep's file over the one that it starts from."""
    bases = [base for base in SWEEPS[name].get("defaults", []) if str(base) in SWEEPS]
    return {**(settings(bases[0]) if bases else {}), **SWEEPS[name]}


@pytest.fixture
def experiments(monkeypatch):
    """A function that imports a script of `experiments/`, as a script there would."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_every_sweep_is_a_study(experiments):
    studies = experiments("studies").STUDIES
    assert set(studies) == set(SWEEPS)
    reading = {name for name in SWEEPS if {"override /data": "mnist"} in defaults(name)}
    assert {name for name, study in studies.items() if study.mnist} == reading


def defaults(name: str) -> list:
    """The defaults of a sweep's file and of those that it starts from."""
    given = SWEEPS[name].get("defaults", [])
    return given + [line for base in given if str(base) in SWEEPS for line in defaults(base)]


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_a_reduced_study_trains_checks_its_claims_and_reports(name, experiments, command, tmp_path):
    """Whether a claim holds on so few steps is no matter; that it is decided or says why is."""
    reports = experiments("reports")
    code, _, err = command(*reports.command(name, reduced=True))
    assert code == 0, err
    folder = tmp_path / reports.write(f"{name}_reduced")
    said = json.loads((folder / "claims.json").read_text())
    assert {claim["claim"] for claim in said["claims"]} == set(settings(name)["claims"])
    assert all(claim["verdict"] and claim["detail"] for claim in said["claims"])
    assert 2 <= said["runs"] <= 200
    readme = (folder / "README.md").read_text()
    pictures = sorted(f.name for f in (folder / "charts").iterdir())
    assert pictures
    assert all(f"(charts/{picture})" in readme for picture in pictures)
    assert readme.count("![") == len(pictures)
    assert settings(name).get("paper", {}).get("source", "") in readme
    assert not list(folder.glob("*.html"))
    assert "report/index.html" in readme


def test_a_report_names_no_folder_of_the_machine_that_trained_it(experiments, command, tmp_path):
    """The path of the data is part of the recorded command, and of no other machine's business."""
    reports = experiments("reports")
    data = str(fake_mnist(tmp_path / "somewhere"))
    on_mnist = ("data=mnist", f"data.root={data}", "data.subset=40", "data.download=false")
    code, _, err = command(*reports.command("std_lr", reduced=True), *on_mnist)
    assert code == 0, err
    folder = tmp_path / reports.write("std_lr_reduced", data)
    for file in ("README.md", "claims.json"):
        text = (folder / file).read_text()
        assert "data.root=PATH" in text
        assert str(tmp_path) not in text
    assert f"data.root={data}" in reports.command("he_2015", data)


def test_the_script_trains_draws_and_keeps_a_record(tmp_path):
    done = script(tmp_path, "reports.py", "std_lr", "--reduced")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (tmp_path / "runs/reports.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["study"], record["code"]) == ("std_lr_reduced", 0)
    assert record["seconds"] > 0
    said = json.loads((tmp_path / "reports/std_lr_reduced/claims.json").read_text())
    assert said["command"].startswith("python -m initstudy +sweep=std_lr ")


def test_the_script_names_a_study_that_does_not_exist(tmp_path):
    done = script(tmp_path, "reports.py", "he_2015", "nonesuch")
    assert done.returncode == 2
    assert "no such study: nonesuch" in done.stderr


def test_a_study_that_fails_does_not_stop_the_others(experiments, monkeypatch, tmp_path):
    reports = experiments("reports")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    monkeypatch.setattr(sys, "argv", ["reports.py", "std_lr", "he_2015"])
    monkeypatch.setattr(
        reports, "train", lambda overrides: 3 if "+sweep=std_lr" in overrides else 0
    )
    drawn = []
    monkeypatch.setattr(reports, "write", lambda name, data: drawn.append(name))
    assert reports.main() == 1
    assert drawn == ["he_2015"]


def script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / name), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


REPORTS = sorted(file.parent.name for file in ROOT.glob("reports/*/claims.json"))


def test_the_index_counts_what_the_reports_say(experiments, monkeypatch):
    monkeypatch.chdir(ROOT)
    folders = {file.name for file in (ROOT / "reports").iterdir() if file.is_dir()}
    assert folders == {*REPORTS, "throughput"}
    assert (ROOT / "reports/README.md").read_text() == experiments("index").text()


@pytest.mark.parametrize("name", REPORTS)
def test_a_committed_report_is_whole_and_about_the_study_of_today(name):
    """Text, charts and claims agree with one another and with the study's file."""
    folder = ROOT / "reports" / name
    said = json.loads((folder / "claims.json").read_text())
    readme = (folder / "README.md").read_text()
    verdicts = re.findall(r"^\| \*\*([A-Z]+)\*\* \|", readme, re.MULTILINE)
    assert verdicts == [claim["verdict"] for claim in said["claims"]]
    assert {claim["claim"] for claim in said["claims"]} == set(settings(name)["claims"])
    shown = re.findall(r"\(charts/([^)]+)\)", readme)
    assert sorted(shown) == sorted(file.name for file in (folder / "charts").iterdir())
    assert said["command"] in readme
    assert f"+sweep={name}" in said["command"]
    assert f"{said['runs']} runs" in readme
    assert f"initstudy {initstudy.__version__}" in readme
    for text in (readme, json.dumps(said)):
        assert not re.search(r"=/|/(home|tmp|root|work)/", text)
    assert settings(name).get("paper", {}).get("source", "") in readme


def test_a_reduced_sweep_that_is_killed_ends_as_one_that_was_not(tmp_path):
    arguments = ["--kills", "3", "--runs", "6", "--steps", "600", "--seed", "1"]
    done = script(tmp_path, "faults.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS: nothing lost, nothing doubled, nothing different" in done.stdout
    assert "store: 6 runs, 0 lost, 0 doubled" in done.stdout
