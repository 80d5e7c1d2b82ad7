"""Ctrl-C and SIGTERM: the process ends within two seconds, and says how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The seconds that the main thread has to put things in order; then the process ends wherever it is.
GRACE = 1.2
# Signals belong to the process, and so does what it says at its end.
_advice = ["the same command continues with the runs that are missing"]
_received: list[int] = []


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def advise(text: str) -> None:
    """Sets what the line at the end says of how to continue."""
    _advice[0] = text


def heed() -> None:
    """Raises `Stopped` if a signal has asked the process to end, and this got lost.

    What is raised while native code calls back into Python is printed and forgotten. Numba does so
    as it compiles, and then fails for another reason, which is not one to act upon.
    """
    if _received:
        raise Stopped(_received[0])


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM end the process with codes 130 and 143.

    They raise `Stopped` in the main thread. If that is deep in native code, or waits for other
    threads, the process still ends after `GRACE` seconds: everything on disk is whole at every
    moment, so that there is nothing to wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    watcher = threading.Thread(target=_watch, args=(read,), name="stopping", daemon=True)
    watcher.start()
    fd_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    unraisable = sys.unraisablehook

    def pass_over_stopped(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, Stopped):
            unraisable(lost)

    # What cannot be raised where it happened is printed, but for this; see `heed`.
    sys.unraisablehook = pass_over_stopped
    try:
        yield
    except Stopped as stopped:
        _leave(stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        sys.unraisablehook = unraisable
        _received.clear()
        os.close(write)


def _raise(number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second one would break into the putting in order.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _received.append(number)
    raise Stopped(number)


def _watch(pipe: int) -> None:
    """Waits for a signal, which the pipe tells at once, whatever the main thread is doing."""
    with os.fdopen(pipe, "rb", buffering=0) as received:
        while number := received.read(1):
            if number[0] in SIGNALS:
                threading.Event().wait(GRACE)
                _leave(number[0])


def _leave(number: int) -> None:
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    os.write(sys.stderr.fileno(), f"initstudy: stopped by {name}; {_advice[0]}\n".encode())
    # Not sys.exit: threads and exit handlers of libraries may wait for a server.
    os._exit(128 + number)
