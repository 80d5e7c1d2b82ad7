"""The one way into every command: `initstudy COMMAND …`, `python -m initstudy[.COMMAND] …`."""

from __future__ import annotations

import difflib
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from initstudy.runtime.signals import stoppable

# What each does, as `initstudy --help` says it. Each is a module of this package with a function
# `main` from arguments to an exit code.
COMMANDS = {
    "run": "train the runs of a configuration or of a grid; may be left out",
    "explain": "say what run would do, and with which engine, without training",
    "report": "draw the report of a study again, compare studies, publish to W&B",
    "status": "say how far a study is that runs elsewhere",
    "check": "train finished runs again and compare every value",
    "audit": "say what a model starts from, and what is wrong with it",
    "completion": "print the script that makes the shell complete all of this",
}
DEFAULT = "run"
INTERRUPTED = 130
CLOSED_PIPE = 1


def enter(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; returns the exit code.

    Args:
        arguments: The words behind the program's name; by default those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _find_users_modules()
    if "--version" in words:
        from initstudy import __version__

        print(f"initstudy {__version__}")
        return 0
    if not words or not _names_a_command(words[0]):
        return _run(DEFAULT, words)
    if words[0] not in COMMANDS:
        return _refuse(words[0])
    return _run(words[0], words[1:])


def leave(command: str) -> None:
    """Runs one command with the arguments of this process, and leaves with its exit code."""
    _find_users_modules()
    sys.exit(_run(command, sys.argv[1:]))


def _find_users_modules() -> None:
    """Lets `model._target_=mine.Net` find mine.py here, as `python -m` does and no script does."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def _names_a_command(word: str) -> bool:
    """Whether a word is the name of a command, not an option and not an override of Hydra's."""
    return word[:1] not in ("-", "+", "~") and "=" not in word


def _refuse(word: str) -> int:
    close = difflib.get_close_matches(word, COMMANDS, n=1)
    advice = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(COMMANDS)}"
    sys.stderr.write(f"initstudy: {word}: there is no such command; {advice}\n")
    return 2


def _run(command: str, arguments: list[str]) -> int:
    if command == DEFAULT and "--explain" in arguments:
        command, arguments = "explain", [word for word in arguments if word != "--explain"]
    trains = command == DEFAULT
    if trains:
        # Start-up makes a million objects that stay: looking through them takes a third of its
        # time. The study turns the collector on again.
        gc.disable()
    try:
        # Importing what trains takes a second, in which a signal is to be heeded as well.
        with stoppable() if trains else nullcontext():
            code = import_module(f"initstudy.cli.{command}").main(arguments)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # As in `initstudy status runs/x | head -1`. Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        gc.enable()
