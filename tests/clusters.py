"""A study in a process of its own, whose workers wait where a test wants to do damage."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from initstudy import store

ROOT = Path(__file__).parent.parent
SMALL = [
    "max_steps=12",
    "data.subset=200",
    "tracking=off",
    "eval_every=12",
    "probes=full",
    "probes.every=6",
]
# Workers wait in their first step while the file `hold` exists, and after some steps while there
# is `hold-later`; the coordinator never does.
MINE = """
    import multiprocessing, sys, time
    from pathlib import Path
    import torch
    from torch import nn

    def in_worker():
        return multiprocessing.parent_process() or Path(sys.argv[0]).name != "__main__.py"

    class Held(nn.Module):
        calls = 0
        def __init__(self, classes, hidden=6):
            super().__init__()
            self.body = nn.Linear(64, hidden)
            self.act = nn.Tanh()
            self.head = nn.Linear(hidden, classes)
        def forward(self, x):
            self.calls += self.training
            files = ["hold", "hold-later"] if self.calls > 3 else ["hold"]
            while in_worker() and any(Path(file).exists() for file in files):
                time.sleep(0.02)
            return self.head(self.act(self.body(x.flatten(1))))

    class Choosy:
        def __init__(self, std):
            self.std = std
        def __call__(self, shape, fans, *, generator, dtype):
            if self.std == 0.2:
                raise ArithmeticError("not with 0.2")
            return self.std * torch.randn(shape, generator=generator, dtype=dtype)
"""
GRID = ["-m", "model._target_=mine.Held", "init.std=0.1,0.3", "seed=0,1", "planner.pack_size=2"]
# What has begun anew has drawn its weights again.
CONTINUING = ["checkpoint.every=0", "save_weights=init"]


def environment(threads: int = 1) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}


class Coordinator:
    """`python -m initstudy ARGUMENTS` in a folder, and what it has said."""

    def __init__(self, folder: Path, *arguments: str, threads: int = 1) -> None:
        self.log = folder / f"said{len(list(folder.glob('said*')))}.log"
        # The report has tests of its own, and takes seconds.
        script = textwrap.dedent("""
            import sys
            import initstudy.__main__, initstudy.scheduling.study
            initstudy.scheduling.study._report = lambda *given: None
            sys.argv[0] = initstudy.__main__.__file__
            initstudy.__main__.main()
        """)
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                cwd=folder,
                env=environment(threads),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, seconds: float = 120.0) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def coordinator(folder: Path, *arguments: str, threads: int = 1):
    """A coordinator that does not outlive the test.

    Args:
        folder: Where it runs.
        arguments: What follows `python -m initstudy`.
        threads: The threads that torch may use, all of its workers together.
    """
    (folder / "mine.py").write_text(textwrap.dedent(MINE))
    process = Coordinator(folder, *arguments, threads=threads)
    try:
        yield process
    finally:
        process.kill()


def wait_for(what: Callable[[], Any], seconds: float = 90.0) -> Any:
    """What it gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)
    return found


def started(directory: Path) -> list[str]:
    """The packs that a job has started."""
    return [file.name.split(".")[0] for file in sorted(directory.glob("jobs/*.started.json"))]


def partway(directory: Path) -> list[Path]:
    """The checkpoints of packs that have trained some steps."""
    return sorted(directory.glob("checkpoints/*/history-*.parquet"))


def drawn(directory: Path) -> dict[str, int]:
    """When the weights of each run were drawn."""
    files = directory.glob("runs/*/init.safetensors")
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def results(directory: Path):
    """What was measured: the same wherever it was trained."""
    loaded = store.load(directory)
    where = [c for c in loaded.runs.columns if c.startswith(("executor.", "planner.", "tracking."))]
    runs = loaded.runs.drop("seconds", "device", *where).sort("run")
    return runs, loaded.history.sort("run", "step")


def assert_same_results(directory: Path, other: Path, runs: int = 4) -> None:
    """So many runs, none lost or doubled, each to the last bit what it is in the other sweep."""
    ours, theirs = results(directory), results(other)
    ids = ours[0]["run"].to_list()
    assert len(ids) == len(set(ids)) == runs
    for mine, there in zip(ours, theirs, strict=True):
        expected = there.filter(pl.col("run").is_in(ids)).select(mine.columns)
        assert_frame_equal(mine, expected, check_exact=True)


def assert_went_on(directory: Path, before: dict[str, int], other: Path) -> None:
    """The four runs that had begun ended as in the other sweep, and none was begun anew."""
    assert len(before) == 4
    assert drawn(directory) == before
    assert not list(directory.glob("checkpoints/*"))
    assert_same_results(directory, other)
