"""How much memory a process and those below it hold at most."""

from __future__ import annotations

import threading

import psutil

SECONDS_BETWEEN_LOOKS = 0.25


class Watch:
    """Looks now and then at how much memory a process and those below it hold."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.peak = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def end(self) -> int:
        """Looks no more; the most that was seen."""
        self.over.set()
        self.thread.join()
        return self.peak

    def _look(self) -> None:
        while not self.over.wait(SECONDS_BETWEEN_LOOKS):
            try:
                held = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(map(_resident, held)))
            except psutil.NoSuchProcess:
                continue


def _resident(process: psutil.Process) -> int:
    """Bytes; a page that processes share counts in parts, where the system tells them."""
    try:
        info = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return getattr(info, "pss", info.rss)
