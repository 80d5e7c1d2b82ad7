"""Progress as people read it: on a terminal, in a log, and from elsewhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from initstudy.scheduling.progress import FILE, Progress, duration

SMALL = ["data.subset=64", "probes=off", "tracking=off"]


def progress(directory, **options):
    console = Console(file=io.StringIO(), width=200, **options)
    return console, Progress(console, directory, runs=4, steps=400, packs=2)


def test_time_left_comes_from_steps_that_were_trained(tmp_path):
    _, told = progress(tmp_path)
    told.begun -= 10
    # One run went on from a checkpoint, one diverged early: neither was trained in these seconds.
    told.resume("a", 90)
    told.step("a", 100, 0.5)
    told.step("b", 40, 2.0)
    told.step("c", 5, 3.0)
    told.finish("c", diverged=True)
    assert told.trained == 100 + 40 + 100
    assert told.speed == pytest.approx((10 + 40 + 5) / 10, rel=0.01)
    assert told.seconds_left == pytest.approx(160 / 5.5, rel=0.01)
    row = told.as_row()
    assert (row["finished"], row["diverged"], row["failed"]) == (1, 1, 0)
    assert row["loss"] == [0.5, 3.0]


def test_a_terminal_shows_runs_packs_speed_loss_and_time_left(tmp_path):
    console, told = progress(tmp_path, force_terminal=True)
    with told:
        told.begun -= 10
        told.begin("p")
        told.step("a", 50, 0.25)
        told.finish("d", failed=True)
        told.bar.refresh()
    shown = console.file.getvalue()
    for words in ("0/4 runs (1 failed)", "1 of 2 packs running", "150/400 steps", "loss 0.25 to"):
        assert words in shown
    assert "left" in shown


def test_elsewhere_it_is_quiet_and_has_no_control_characters(tmp_path):
    console, told = progress(tmp_path)
    with told:
        for step in range(100):
            told.step("a", step, 1.0)
        assert console.file.getvalue() == ""
        told.shown -= 61
        told.step("a", 100, 1.0)
    lines = console.file.getvalue()
    assert lines.count("\n") == 1
    assert "\x1b" not in lines


def test_no_color_is_respected(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console, told = progress(tmp_path, force_terminal=True, color_system="truecolor")
    with told:
        told.step("a", 10, 1.0)
        told.bar.refresh()
    assert "\x1b[3" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.4, "3 s"), (75, "1 min 15 s"), (7320, "2 h 2 min"), (86400, "24 h 0 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def status(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "initstudy.status", *arguments],
        cwd=cwd,
        text=True,
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )


@pytest.mark.slow
def test_status_of_a_sweep_that_runs_and_of_one_that_was_killed(tmp_path):
    """A real sweep in a process of its own, looked at from outside, then killed."""
    grid = [
        sys.executable,
        "-m",
        "initstudy",
        "-m",
        "seed=range(6)",
        *SMALL,
        "name=grid",
        "planner.pack_size=3",
        "max_steps=100000",
        "epochs=100000",
    ]
    env = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        grid, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as sweep:
        try:
            file = tmp_path / "runs/grid" / FILE
            until = time.monotonic() + 300
            while not (file.exists() and json.loads(file.read_text())["loss"]):
                assert sweep.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
            found = json.loads(status("runs/grid", "--json", cwd=tmp_path).stdout)
            assert (found["running"], found["runs"], found["complete"]) == (True, 6, 0)
            assert found["progress"]["pid"] == sweep.pid
            assert found["progress"]["running"] == 1
            assert found["jobs"] == {"packs": 0, "begun": 0, "done": 0}
            assert 0 < found["progress"]["steps"] < found["progress"]["total_steps"]
        finally:
            sweep.kill()
    shown = status("runs/grid", cwd=tmp_path).stdout
    assert "0 of 6 runs" in shown
    assert f"to continue: {sys.executable} -m initstudy -m" in shown.replace("\n", "")


def test_status_of_nothing_is_one_line(tmp_path):
    done = status("nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    expected = "initstudy: nowhere: no study has been there; give the directory of one\n"
    assert done.stderr == expected
    assert not Path(tmp_path, "nowhere").exists()


class Shown:
    """What IPython's `display` returns: it keeps what it was given last."""

    def __init__(self, thing):
        self.updates = [thing]

    def update(self, thing, raw):
        assert raw
        self.updates.append(thing)


def test_a_notebook_has_a_bar_that_is_replaced(tmp_path, monkeypatch):
    """The real kernel is in tests/test_notebooks.py; this is what it is given."""
    pytest.importorskip("IPython", reason="needs ipykernel")
    outputs = []

    def display(thing, raw, display_id):
        assert (raw, display_id) == (True, True)
        outputs.append(Shown(thing))
        return outputs[-1]

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("initstudy.scheduling.progress.SECONDS_BETWEEN_FRAMES", 0.0)
    _, told = progress(tmp_path, force_jupyter=True)
    with told:
        told.begin("a")
        told.step("r0", 50, 0.5)
        told.finish("r0")
    (output,) = outputs
    assert len(output.updates) > 3
    for text in output.updates[-1].values():
        assert "1/4 runs" in text
        assert "100/400 steps" in text
        assert "━" in text
