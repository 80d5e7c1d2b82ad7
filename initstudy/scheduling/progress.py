"""How far a sweep is: a bar in a terminal, a line now and then elsewhere, and a file."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from initstudy.runtime.clock import seconds_running
from initstudy.runtime.files import write_atomically

FILE = "progress.json"
SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_FILES = 2.0
SECONDS_BETWEEN_FRAMES = 0.1
SHOWN = ("runs", "packs", "steps", "loss", "left")


class Counter(Protocol):
    """What hears how far training is."""

    def begin(self, pack: str) -> None:
        """A pack begins to train."""

    def end(self, pack: str) -> None:
        """It does no more, however it came to that."""

    def step(self, run: str, step: int, loss: float | None = None) -> None:
        """A run has done so many steps in all, with this training loss, where it is known."""

    def resume(self, run: str, step: int) -> None:
        """A run goes on after so many steps, which were trained before."""

    def finish(self, run: str, *, diverged: bool = False, failed: bool = False) -> None:
        """A run is over."""


class Progress:
    """Counts the steps of all runs of a sweep.

    Args:
        console: Where to write.
        directory: The sweep's, where `progress.json` is kept up to date.
        runs: Runs to train.
        steps: Steps of all of them together.
        packs: What they are put into.

    Attributes:
        to_first_step: Seconds from the start of the process to the first row of any run; None
            before there is one.
    """

    def __init__(
        self, console: Console, directory: Path, runs: int, steps: int, packs: int
    ) -> None:
        self.console = console
        self.directory = directory
        self.runs = runs
        self.total = steps
        self.packs = packs
        self.done: dict[str, int] = {}
        self.losses: dict[str, float] = {}
        self.to_first_step: float | None = None
        self.before = 0
        self.running: set[str] = set()
        self.finished = 0
        self.failed = 0
        self.diverged = 0
        self.begun = self.spoken = self.written = time.monotonic()
        columns = [TextColumn(f"{{task.fields[{name}]}}") for name in SHOWN]
        self.bar = Bar(
            columns[0],
            BarColumn(bar_width=24),
            *columns[1:],
            console=console,
            disable=not console.is_terminal,
        )
        fields: dict[str, Any] = dict(self._texts())
        self.task = self.bar.add_task("", total=steps, **fields)

    def __enter__(self) -> Progress:
        self._write()
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._draw()
        self.running.clear()
        self._write()
        self.bar.stop()

    def begin(self, pack: str) -> None:
        """A pack begins to train."""
        self.running.add(pack)
        self._tell()

    def end(self, pack: str) -> None:
        """It does no more, however it came to that."""
        self.running.discard(pack)

    def step(self, run: str, step: int, loss: float | None = None) -> None:
        """A run has done so many steps in all, with this training loss, where it is known."""
        if self.to_first_step is None:
            self.to_first_step = seconds_running()
        self.done[run] = step
        if loss is not None:
            self.losses[run] = loss
        self._tell()

    def resume(self, run: str, step: int) -> None:
        """A run goes on after so many steps, which an earlier command trained."""
        self.before += step - self.done.get(run, 0)
        self.done[run] = step

    def finish(self, run: str, *, diverged: bool = False, failed: bool = False) -> None:
        """A run is over. What one that diverged or failed never trained counts as done."""
        self.finished += not failed
        self.failed += failed
        self.diverged += diverged
        never = max(self.total // self.runs - self.done.get(run, 0), 0)
        self.before += never
        self.done[run] = self.done.get(run, 0) + never
        self._tell()

    @property
    def trained(self) -> int:
        """Steps done, over all runs."""
        return sum(self.done.values())

    @property
    def speed(self) -> float:
        """Member-steps a second since the start, of those that were really trained."""
        return (self.trained - self.before) / max(time.monotonic() - self.begun, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before there is one."""
        return (self.total - self.trained) / self.speed if self.speed > 0 else None

    def as_row(self) -> dict[str, Any]:
        """What `progress.json` holds."""
        losses = [loss for loss in self.losses.values() if math.isfinite(loss)]
        return {
            "runs": self.runs,
            "finished": self.finished,
            "failed": self.failed,
            "diverged": self.diverged,
            "packs": self.packs,
            "running": len(self.running),
            "steps": self.trained,
            "total_steps": self.total,
            "steps_per_second": self.speed,
            "seconds_left": self.seconds_left,
            "loss": [min(losses), max(losses)] if losses else None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self.written > SECONDS_BETWEEN_FILES:
            self._write()
        if self.console.is_terminal:
            # The sums go over all runs, and every row of every run comes by here.
            if now - self.spoken < SECONDS_BETWEEN_FRAMES:
                return
            self.spoken = now
            self._draw()
        elif now - self.spoken > SECONDS_BETWEEN_LINES:
            self.spoken = now
            said = ", ".join(filter(None, self._texts().values()))
            self.console.print(said, highlight=False, soft_wrap=True)

    def _draw(self) -> None:
        fields: dict[str, Any] = dict(self._texts())
        self.bar.update(self.task, completed=self.trained, **fields)

    def _write(self) -> None:
        self.written = time.monotonic()
        text = json.dumps(self.as_row())
        # Nothing depends on it: a full disk is told of by what does.
        with suppress(OSError):
            write_atomically(self.directory / FILE, lambda partial: partial.write_text(text))

    def _texts(self) -> dict[str, str]:
        return texts(self.as_row())


def texts(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of `progress.json` in words: `runs`, `packs`, `steps`, `loss` and `left`."""
    extra = [f"{row[key]} {key}" for key in ("diverged", "failed") if row[key]]
    noted = f" ({', '.join(extra)})" if extra else ""
    loss = row["loss"]
    left = row["seconds_left"]
    return {
        "runs": f"{row['finished']}/{row['runs']} runs{noted}",
        "packs": f"{row['running']} of {row['packs']} packs running" if row["running"] else "",
        "steps": f"{row['steps']:,}/{row['total_steps']:,} steps, "
        f"{row['steps_per_second']:,.0f} member-steps/s",
        "loss": f"loss {loss[0]:.3g} to {loss[1]:.3g}" if loss else "",
        "left": f"{duration(left)} left" if left else "",
    }


def duration(seconds: float) -> str:
    """A span of time in words, in the two largest units."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
