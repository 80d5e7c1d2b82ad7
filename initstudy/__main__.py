"""The command: `python -m initstudy`."""

from __future__ import annotations

import gc

import initstudy.runtime.clock  # noqa: F401  where the system does not tell, time counts from here
from initstudy.runtime.signals import stoppable


def main() -> None:
    """Runs the command; what a user got wrong is one line and exit code 2."""
    # Start-up makes a million objects that stay: looking through them takes a third of its time.
    gc.disable()
    try:
        with stoppable():
            # What it needs takes a second to import, in which a signal is to be heeded as well.
            from initstudy.cli.run import enter

            enter()
    finally:
        gc.enable()


if __name__ == "__main__":
    main()
