"""The peak memory of a process and its descendants."""

from __future__ import annotations

import threading

import psutil

SECONDS_BETWEEN_SAMPLES = 0.25


class Watch:
    """Samples the memory of a process and its descendants, in a thread."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.peak = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def end(self) -> int:
        """Stops sampling, and returns the largest number of bytes seen."""
        self.over.set()
        self.thread.join()
        return self.peak

    def _sample(self) -> None:
        while not self.over.wait(SECONDS_BETWEEN_SAMPLES):
            try:
                held = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(map(_resident, held)))
            except psutil.NoSuchProcess:
                continue


def _resident(process: psutil.Process) -> int:
    """The bytes that a process holds; shared pages count in proportion where that is known."""
    try:
        info = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return getattr(info, "pss", info.rss)
