"""How far a study is: a bar in a terminal or a notebook, a line now and then elsewhere, a file."""

from __future__ import annotations

import io
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
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from initstudy.runtime.clock import seconds_running
from initstudy.runtime.files import write_atomically

FILE = "progress.json"
SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_FILES = 2.0
SECONDS_BETWEEN_FRAMES = 0.1
WIDTH_IN_NOTEBOOKS = 150
OUTPUT = '<pre style="overflow-x:auto;line-height:normal">{code}</pre>'
SHOWN = ("runs", "packs", "steps", "loss", "left")


class Progress:
    """Counts the steps of all runs of a study.

    Args:
        console: Where to write.
        directory: The directory of the study, where `progress.json` is kept up to date.
        runs: The number of runs to train.
        steps: The steps of all runs together.
        packs: The number of packs in which they train.

    Attributes:
        to_first_step: The seconds from the start of the process to the first row of any run; None
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
        # Steps that count as done but were not trained by this command.
        self.skipped = 0
        self.running: set[str] = set()
        self.finished = 0
        self.failed = 0
        self.diverged = 0
        self.begun = self.shown = self.written = time.monotonic()
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
        # In a notebook the bar is an output of the cell, which is replaced: Rich's own way there
        # needs widgets, which a saved notebook does not show.
        self._output: Any = None

    def __enter__(self) -> Progress:
        self._write()
        self.bar.start()
        if self.console.is_jupyter:
            from IPython.display import display

            self._output = display(self._as_output(), raw=True, display_id=True)
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
        self._update()

    def end(self, pack: str) -> None:
        """A pack trains no longer, for whatever reason."""
        self.running.discard(pack)

    def step(self, run: str, step: int, loss: float | None = None) -> None:
        """A run has done so many steps in all, with this training loss if it is known."""
        if self.to_first_step is None:
            self.to_first_step = seconds_running()
        self.done[run] = step
        if loss is not None:
            self.losses[run] = loss
        self._update()

    def resume(self, run: str, step: int) -> None:
        """A run goes on after so many steps, which were trained before."""
        self.skipped += step - self.done.get(run, 0)
        self.done[run] = step

    def finish(self, run: str, *, diverged: bool = False, failed: bool = False) -> None:
        """A run is over; steps that it never trained, since it diverged or failed, are done."""
        self.finished += not failed
        self.failed += failed
        self.diverged += diverged
        never = max(self.total // self.runs - self.done.get(run, 0), 0)
        self.skipped += never
        self.done[run] = self.done.get(run, 0) + never
        self._update()

    def say(self, line: str) -> None:
        """Prints a line, above the bar."""
        self.console.print(line, highlight=False, soft_wrap=True)

    @property
    def trained(self) -> int:
        """Steps done, over all runs."""
        return sum(self.done.values())

    @property
    def speed(self) -> float:
        """Member-steps per second, of those that this command has trained."""
        return (self.trained - self.skipped) / max(time.monotonic() - self.begun, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """The seconds that the rest takes at the speed so far; None before there is one."""
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

    def _update(self) -> None:
        """Brings file and screen up to date, if the last time is some time ago."""
        now = time.monotonic()
        if now - self.written > SECONDS_BETWEEN_FILES:
            self._write()
        if self._is_drawn:
            # The sums go over all runs, and every row of every run calls this.
            if now - self.shown < SECONDS_BETWEEN_FRAMES:
                return
            self.shown = now
            self._draw()
        elif now - self.shown > SECONDS_BETWEEN_LINES:
            self.shown = now
            self.say(", ".join(filter(None, self._texts().values())))

    @property
    def _is_drawn(self) -> bool:
        """Whether there is a bar, rather than a line now and then."""
        return self.console.is_terminal or self.console.is_jupyter

    def _draw(self) -> None:
        fields: dict[str, Any] = dict(self._texts())
        self.bar.update(self.task, completed=self.trained, **fields)
        if self._output is not None:
            self._output.update(self._as_output(), raw=True)

    def _as_output(self) -> dict[str, str]:
        """The bar by MIME type, as a notebook shows it."""
        # Apart from the notebook, in which everything that is printed is an output of its own.
        page = Console(
            record=True, width=WIDTH_IN_NOTEBOOKS, file=io.StringIO(), force_jupyter=False
        )
        page.print(self.bar)
        html = page.export_html(inline_styles=True, clear=False, code_format=OUTPUT)
        return {"text/html": html, "text/plain": page.export_text()}

    def _write(self) -> None:
        self.written = time.monotonic()
        text = json.dumps(self.as_row())
        # No result depends on this file: a full disk is reported when one cannot be written.
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
    """A duration in its two largest units, such as "1 min 15 s"."""
    total = round(seconds)
    hours, minutes = total // 3600, total % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {total % 60} s" if minutes else f"{total} s"
