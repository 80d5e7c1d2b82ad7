"""One console command with subcommands, each the same as `python -m initstudy[.COMMAND]`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import initstudy
from initstudy.cli import door
from initstudy.config.paths import CONF
from tests.synthetic import save, sweep

ROOT = Path(__file__).parent.parent.parent
HERE = [name for name in door.COMMANDS if find_spec(f"initstudy.cli.{name}")]


@pytest.fixture
def shell(tmp_path):
    """Runs a line in a shell; gives code, stdout and stderr."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}

    def run(line):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=tmp_path,
            env=env,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("initstudy run model=cnn --cfg job", "python -m initstudy model=cnn --cfg job"),
        ("initstudy explain sed=1", "python -m initstudy.explain sed=1"),
        ("initstudy --explain sed=1", "initstudy explain sed=1"),
        ("initstudy report nowhere", "python -m initstudy.report nowhere"),
        ("initstudy status nowhere", "python -m initstudy.status nowhere"),
        ("initstudy check nowhere", "python -m initstudy.check nowhere"),
        ("initstudy audit init=nope", "python -m initstudy.audit init=nope"),
    ],
)
def test_a_subcommand_is_the_module_of_that_name(shell, script, module):
    assert shell(script) == shell(module)


def test_the_help_names_every_command():
    shown = (CONF / "config.yaml").read_text()
    for name, purpose in door.COMMANDS.items():
        assert f"{name:<11} {purpose}" in shown


@pytest.mark.parametrize("command", HERE)
def test_help_is_there_before_anything_large_is_imported(command, tmp_path):
    program = (
        "import sys\n"
        "from initstudy.cli.door import enter\n"
        f"try:\n    enter([{command!r}, '--help'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "large = {'torch', 'altair', 'wandb', 'numba', 'scipy', 'ray'}\n"
        "assert not large & set(sys.modules), large & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "initstudy" in done.stdout
    assert not list(tmp_path.iterdir())


def test_options_may_stand_between_overrides(command):
    code, out, err = command("model=cnn", "--cfg", "job", "seed=3", "--package", "model")
    assert (code, err) == (0, "")
    assert "_target_: initstudy.models.CNN" in out


def test_the_version_is_initstudys(command):
    assert command("--version") == (0, f"initstudy {initstudy.__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "initstudy --help",
        "initstudy --cfg job",
        "initstudy completion bash",
        "initstudy status study",
        "initstudy status study --json",
        "initstudy model=cnn max_steps=2 data.subset=40 tracking=off planner.timing=off",
    ],
)
def test_a_pipe_that_is_closed_ends_the_command_quietly(shell, tmp_path, command):
    save(sweep(stds=[0.1], seeds=1), tmp_path / "study")
    # `true` has ended, and with it the pipe, long before Python writes its first line.
    assert shell(f"{command} | true") == (door.CLOSED_PIPE, "", "")
