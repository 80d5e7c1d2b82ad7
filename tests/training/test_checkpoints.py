"""Packs broken off in the middle go on, and end where they would have ended."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from initstudy import store
from initstudy.training import checkpoints
from tests.users_own import MINE

ROOT = Path(__file__).parent.parent.parent
# The largest standard deviation diverges; rows fall between checkpoints and on them.
GRID = [
    "-m",
    "init.std=0.1,20",
    "seed=0,1",
    "data.subset=200",
    "log_every=7",
    "eval_every=30",
    "probes.every=10",
    "tracking=off",
]
KINDS = {
    "stacked": ["model.width=16"],
    "adam": ["model.width=16", "optimizer=adam"],
    "one-by-one": ["model._target_=mine_drops.Dropping"],
}


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "initstudy", *arguments, "hydra/launcher=initstudy"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"},
    )


def contents(name):
    """The bytes of the results, and of the weights."""
    base = Path("runs") / name
    files = [*base.glob("store/*.parquet"), *base.glob("runs/*/*.safetensors")]
    return {str(file.relative_to(base)): file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_killed_in_the_middle_goes_on_from_its_checkpoint_to_the_same_bytes(
    command, tmp_path, kind
):
    (tmp_path / "mine_drops.py").write_text(textwrap.dedent(MINE))
    grid = [*GRID, *KINDS[kind], "max_steps=150", "save_weights=both"]
    assert command(*grid, "name=whole")[0] == 0
    assert not list(Path("runs/whole/checkpoints").glob("*"))
    process = start(tmp_path, *grid, "name=killed", "checkpoint.every=0")
    steps = 0
    while steps < (40 if kind != "one-by-one" else 10):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
        found = sorted(Path("runs/killed/checkpoints").glob("*/facts-*.json"))
        steps = max((int(file.stem.partition("-")[2]) for file in found), default=0)
    process.kill()
    process.communicate()
    # Not one row of a run is in the store yet, and none is trained from its start again.
    assert not store.finished("runs/killed")
    before = {f: f.stat().st_mtime_ns for f in Path("runs/killed/runs").rglob("init.safetensors")}
    code, out, err = command(*grid, "name=killed")
    assert code == 0, err
    assert "training 4 in 1 pack" in out
    assert contents("killed") == contents("whole")
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    assert not list(Path("runs/killed/checkpoints").glob("*"))


def test_a_pack_killed_online_goes_on_at_the_server_where_it_was(
    command, tmp_path, server, monkeypatch
):
    (tmp_path / "mine_slow.py").write_text(textwrap.dedent(MINE))
    grid = [
        "-m",
        "seed=0,1",
        "model._target_=mine_slow.Slow",
        "max_steps=2000",
        "epochs=1000",
        "log_every=50",
        "probes=off",
        "eval_every=1000",
        "data.subset=200",
        "tracking=online",
        "name=grid",
        "checkpoint.every=0.5",
    ]
    monkeypatch.setenv("SLOW", "0.02")
    process = start(tmp_path, *grid)
    # The client gathers rows for fifteen seconds.
    while sum(len(rows) > 0 for rows in server.history.values()) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not store.finished("runs/grid")
    half = {run: len(rows) for run, rows in server.history.items()}
    assert all(0 < count < 41 for count in half.values())
    assert list(Path("runs/grid/checkpoints").glob("*/sha256"))
    monkeypatch.setenv("SLOW", "0")
    code, _, err = command(*grid)
    assert code == 0, err
    history = store.load("runs/grid").history
    for run in store.finished("runs/grid"):
        ours = history.filter(run=run).sort("step")
        rows = server.rows(run)
        assert [row["step"] for row in rows] == ours["step"].to_list() == [*range(0, 2001, 50)]
        assert [row["train/loss"] for row in rows] == ours["train/loss"].to_list()
    assert len(server.complete) == 2


@pytest.mark.parametrize("harm", ["garbled", "half", "other runs", "other weights"])
def test_a_checkpoint_that_is_of_no_use_is_removed_and_its_pack_begins_anew(
    command, tmp_path, harm
):
    grid = [*GRID, "model.width=16", "max_steps=60"]
    command(*grid, "name=whole", "save_weights=final")
    process = start(tmp_path, *grid, "name=killed", "checkpoint.every=0", "save_weights=none")
    while not list(Path("runs/killed/checkpoints").glob("*/sha256")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    (folder,) = Path("runs/killed/checkpoints").iterdir()
    if harm == "garbled":
        state = next(folder.glob("state-*"))
        content = state.read_bytes()
        state.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif harm == "half":
        (folder / "sha256").unlink()
    elif harm == "other runs":
        # One of its runs has been trained with others since.
        command(*[a.replace("seed=0,1", "seed=0") for a in grid], "name=killed")
    weights = "save_weights=final" if harm == "other weights" else "save_weights=none"
    assert command(*grid, "name=killed", weights)[0] == 0
    whole, killed = (
        store.load(f"runs/{name}").runs.drop("seconds") for name in ("whole", "killed")
    )
    assert killed.sort("run").equals(whole.sort("run"))
    if harm == "other weights":
        assert contents("killed") == contents("whole")
    assert not list(Path("runs/killed/checkpoints").glob("*"))


def test_a_checkpoint_that_a_job_may_be_writing_is_left_alone(tmp_path):
    half = tmp_path / "checkpoints/abc/state-3.safetensors"
    half.parent.mkdir(parents=True)
    half.touch()
    assert checkpoints.find(tmp_path, [], [], {}, taken={"abc"}) == []
    assert half.exists()
    assert checkpoints.find(tmp_path, [], [], {}) == []
    assert not half.exists()


def test_how_often_is_a_number_of_seconds_and_no_part_of_a_runs_identity(command):
    code, _, err = command("checkpoint.every=60s")
    assert code == 2
    assert "checkpoint.every=60s: must be a number of seconds, such as 60, or null" in err
    small = [*GRID, "model.width=8", "max_steps=3", "name=grid"]
    command(*small)
    assert "4 of 4 complete" in command(*small, "checkpoint.every=null")[1]
    assert "checkpoint.every" not in store.load("runs/grid").runs.columns
