"""Shell completion, in real shells."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyte
import pytest

from initstudy.cli import completion

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
SECONDS = 60


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    home = {"HOME": str(tmp_path), "TERM": "vt100", "INPUTRC": "/dev/null"}
    return os.environ | home | {"PATH": path, "PYTHONPATH": str(ROOT)}


class Terminal:
    """A shell in a terminal of its own, as a user has it."""

    def __init__(self, command, environment, folder):
        self.screen = pyte.Screen(200, 50)
        self.stream = pyte.ByteStream(self.screen)
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, environment)
        os.set_blocking(self.file, False)

    def type(self, text):
        os.write(self.file, text.encode())

    def shows(self, text):
        """Whether a text appears on the screen."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError, OSError):
                self.stream.feed(os.read(self.file, 65536))
            if any(text in line for line in self.screen.display):
                return True
            time.sleep(0.02)
        return False

    def close(self):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.file)


# What is typed, and how the line reads after the Tab key.
COMPLETED = [
    ("initstudy sta", "initstudy status "),
    ("initstudy +sweep=std_grid_m", "initstudy +sweep=std_grid_mnist "),
    ("initstudy -m init=kaiming_u", "initstudy -m init=kaiming_uniform "),
    ("initstudy run model=cnn model.kern", "initstudy run model=cnn model.kernel_size="),
    ("initstudy audit init=delta", "initstudy audit init=delta_orthogonal "),
    ("initstudy status runs/m", "initstudy status runs/mine/"),
    ("initstudy report --pub", "initstudy report --publish "),
]


def test_bash_completes_commands_options_groups_choices_keys_and_folders(environment, tmp_path):
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], environment, tmp_path)
    try:
        shell.type(
            'PS1="> "; bind "set bell-style none"; eval "$(initstudy completion bash)"; clear\n'
        )
        for typed, line in COMPLETED:
            shell.type(f"{typed}\tX")
            assert shell.shows(f"> {line}X"), shell.screen.display
            # Away with the line, which is not to be run.
            shell.type("\x15")
    finally:
        shell.close()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes_as_well(environment, tmp_path):
    shell = Terminal(["zsh", "-f", "-i"], environment, tmp_path)
    try:
        shell.type('PS1="> "; unsetopt beep prompt_sp; eval "$(initstudy completion zsh)"; clear\n')
        for typed, line in COMPLETED[:4]:
            shell.type(f"{typed}\tX")
            assert shell.shows(f"> {line}X"), shell.screen.display
            shell.type("\x15")
    finally:
        shell.close()


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_as_well(environment, tmp_path):
    script = "initstudy completion fish | source; complete -C 'initstudy init=kaiming_u'"
    done = subprocess.run(
        ["fish", "-N", "-c", script],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.split() == ["init=kaiming_uniform"]


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("initstudy ", {"run", "status", "+sweep=", "init=", "seed="}, {"sweep="}),
        ("initstudy run ", {"+sweep=", "init="}, {"status"}),
        ("initstudy --c", {"--cfg", "--config-dir"}, {"--multirun"}),
        ("initstudy model=cnn model.", {"model.channels.", "model.pooling="}, {"model.depth="}),
        ("initstudy init=kaiming_normal,la", set(), {"init="}),
        ("initstudy -m seed=0,1 optimizer.", {"optimizer.lr="}, set()),
        ("initstudy optimizer=adam optimizer.", {"optimizer.betas."}, {"optimizer.momentum="}),
        ("initstudy --config-dir own init=m", {"init=mine", "init=mup"}, set()),
        ("initstudy check ", set(), {"init="}),
        ("initstudy completion ", {"bash", "zsh", "fish"}, set()),
        ("initstudy init=nonsense model.", set(), set()),
    ],
)
def test_what_may_stand_at_the_end_of_a_line(tmp_path, monkeypatch, capfd, line, some, others):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/init").mkdir(parents=True)
    (tmp_path / "own/init/mine.yaml").write_text("_target_: mine.Init\n")
    assert completion.main(["query", line]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert some <= set(out.split())
    assert not others & set(out.split())
