"""Disks that are full, and files that may not grow: the sweep stops with one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from initstudy import store
from tests.tracking.test_tracker import steps_on_disk

ROOT = Path(__file__).parent.parent.parent
GRID = [
    "-m",
    "seed=range(24)",
    "planner.pack_size=2",
    "model.width=16",
    "max_steps=40",
    "data.subset=200",
    "eval_every=40",
]


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a filesystem cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def run(folder, *arguments, limit=None):
    # Not by a `preexec_fn`, which would fork a process that may have threads of other tests.
    cap = ["prlimit", f"--fsize={limit}"] if limit else []
    return subprocess.run(
        [*cap, sys.executable, "-m", "initstudy", *GRID, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize(
    "further",
    [
        ["tracking=off"],
        ["tracking=off", "save_weights=both"],
        ["tracking=off", "checkpoint.every=0", "planner.pack_size=24", "model.width=128"],
        ["tracking=offline"],
    ],
    ids=["store", "weights", "checkpoint", "wandb"],
)
def test_a_full_disk_stops_the_sweep_with_one_line_and_what_was_complete_stays(
    small_disk, tmp_path, further
):
    arguments = [f"dir={small_disk}/grid", *further]
    # Leave room for the first packs alone.
    (small_disk / "filler").write_bytes(b"x" * (2**21 - 250_000))
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("initstudy: ")]
    assert len(said) == 1, done.stderr
    assert "No space left on device" in said[0]
    assert "dir=disk/grid" in said[0]
    assert "Traceback" not in done.stdout + done.stderr
    complete = store.finished(small_disk / "grid")
    assert len(complete) < 24
    if complete:
        assert set(store.load(small_disk / "grid").runs["run"]) == complete
    assert not list((small_disk / "grid").rglob("*.partial"))
    # With room again, the same command trains what is missing.
    (small_disk / "filler").unlink()
    room = ["mount", "-o", "remount,size=200m", str(small_disk)]
    subprocess.run(room, check=True)
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{len(complete)} of 24 complete" in done.stdout
    assert len(store.finished(small_disk / "grid")) == 24
    if further == ["tracking=offline"]:
        for finished in store.finished(small_disk / "grid"):
            assert steps_on_disk(small_disk / "grid", finished) == [0, 20, 40]


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit, of util-linux")
def test_files_that_may_not_grow_stop_it_as_well(tmp_path):
    done = run(tmp_path, "name=grid", "tracking=off", "planner.pack_size=24", limit=16_000)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not store.finished(tmp_path / "runs/grid")
