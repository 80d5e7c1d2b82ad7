"""The command that a study records is the one that was given, and runs again as it is recorded."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from initstudy.cli import invocation
from tests.users_own import MINE

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
# Every run fails at its first step: a study that is described, whose runs have their ids, and that
# takes no time to train and to report.
GRID = ["model._target_=mine.Raising", "init.std=0.1,0.2", "seed=range(2)", "name=grid"]
SMALL = ["tracking=off", "probes=off", "planner.timing=off", "planner.workers=1", "data.subset=320"]
RUNS_FAILED = 3


@pytest.fixture
def shell(tmp_path):
    """Runs a line in a shell in a new folder with mine.py; returns its code and that folder."""
    folders = []
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(line):
        folder = tmp_path / str(len(folders))
        folders.append(folder)
        folder.mkdir()
        (folder / "mine.py").write_text(textwrap.dedent(MINE))
        (folder / "notebook.py").write_text(NOTEBOOK)
        (folder / "own.py").write_text("from initstudy.__main__ import main\nmain()\n")
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == RUNS_FAILED, done.stderr
        return json.loads((folder / "runs/grid/study.json").read_text())["command"], failed(folder)

    return run


def failed(folder):
    """The ids of the runs of a study that cannot be trained."""
    return {file.name.split(".")[0] for file in (folder / "runs/grid/store").glob("*.failed.json")}


# What a cell of a notebook does: the process was started with other words.
NOTEBOOK = f"""
import sys
from initstudy.__main__ import main
sys.argv = ["notebook", "-m", *{[*GRID, *SMALL]!r}]
main()
"""
ARGUMENTS = shlex.join([*GRID, *SMALL])


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (f"initstudy run {ARGUMENTS} -m", None),
        (f"python -m initstudy --multirun {ARGUMENTS}", None),
        (f"python own.py {ARGUMENTS} hydra.mode=MULTIRUN", None),
        ("python notebook.py", f"python -m initstudy -m {ARGUMENTS}"),
    ],
    ids=["script", "module", "own program", "notebook"],
)
@pytest.mark.slow
def test_the_recorded_command_runs_again_as_recorded(shell, given, recorded):
    command, runs = shell(given)
    assert len(runs) == 4
    assert command == (recorded or given)
    assert shell(command) == (command, runs)


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        # Programs that the shell finds by their names.
        ([f"{BIN}/initstudy"], [f"{BIN}/python", f"{BIN}/initstudy"], "initstudy"),
        ([invocation.__file__], [f"{BIN}/python", "-m", "initstudy"], "python -m initstudy"),
        # A virtual environment that is not activated: the shell finds no such program.
        (
            ["env/bin/initstudy", "a=1"],
            ["env/bin/python", "env/bin/initstudy", "a=1"],
            "env/bin/initstudy a=1",
        ),
        (
            [invocation.__file__, "a=1"],
            ["env/bin/python", "-m", "initstudy", "a=1"],
            "env/bin/python -m initstudy a=1",
        ),
        # Options of the interpreter, and a profiler that starts the module.
        (
            [invocation.__file__, "a=1"],
            ["python", "-X", "dev", "-m", "initstudy", "a=1"],
            "python -X dev -m initstudy a=1",
        ),
        (
            [invocation.__file__, "a=1"],
            ["python", "-m", "cProfile", "-m", "initstudy", "a=1"],
            "python -m cProfile -m initstudy a=1",
        ),
        # Words that the shell would take apart.
        (["-c", "a=[1, 2]"], ["python", "-c", "…", "a=[1, 2]"], "python -m initstudy 'a=[1, 2]'"),
        # Set by a script, which has none of its own arguments.
        (
            [invocation.__file__, "a=1"],
            ["python", "experiments/std.py"],
            "python -m initstudy a=1",
        ),
        ([invocation.__file__], ["python", "experiments/std.py"], "python -m initstudy"),
    ],
)
def test_the_start_of_the_process_says_how_to_start_it(monkeypatch, argv, orig_argv, expected):
    monkeypatch.setenv("PATH", str(BIN), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    assert invocation.given() == expected
