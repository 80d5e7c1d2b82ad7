"""The command that was given, so that it can be given again."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

PACKAGE = "initstudy"


def given() -> str:
    """The command by which this process was started, as a line for a shell.

    A console script, `python -m initstudy` and a program of the user's own are told from one
    another by `sys.orig_argv`, which holds every word from the interpreter on. Where Python code
    has set `sys.argv` itself, as in a notebook, those words started something else; the command
    that does the same is `python -m initstudy` with the arguments.
    """
    program, arguments = sys.argv[0], sys.argv[1:]
    start = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
    if sys.orig_argv[len(start) :] != arguments or not start:
        return shlex.join(["python", "-m", PACKAGE, *arguments])
    interpreter, *options = start
    if options[-2:] == ["-m", PACKAGE]:
        return shlex.join([_as_found(interpreter), *options, *arguments])
    if options and options[-1] == program and not _is_part_of_package(program):
        is_script = Path(program).stem == PACKAGE
        words = [_as_found(program)] if is_script else [_as_found(interpreter), *options]
        return shlex.join([*words, *arguments])
    return shlex.join(["python", "-m", PACKAGE, *arguments])


def _as_found(program: str) -> str:
    """A program's name alone if the shell finds that very program by it, else the path."""
    name = Path(program).name
    found = shutil.which(name)
    return name if found and Path(found).absolute() == Path(program).absolute() else program


def _is_part_of_package(program: str) -> bool:
    return Path(program).resolve().is_relative_to(Path(__file__).parent.parent)
