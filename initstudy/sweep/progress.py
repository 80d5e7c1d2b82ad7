"""How far a sweep is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 30.0


class Counter(Protocol):
    """What hears how far training is."""

    def step(self, run: str, step: int) -> None:
        """A run has done so many steps in all."""

    def finish(self, run: str, *, diverged: bool) -> None:
        """A run is complete."""


class Progress:
    """Counts the steps of all runs of a sweep.

    Args:
        console: Where to write.
        runs: Runs to train.
        steps: Steps of all of them together.
    """

    def __init__(self, console: Console, runs: int, steps: int) -> None:
        self.console = console
        self.runs = runs
        self.total = steps
        self.done: dict[str, int] = {}
        self.finished = 0
        self.diverged = 0
        self.begun = time.monotonic()
        self.spoken = self.begun
        self.bar = Bar(
            TextColumn("[bold]{task.fields[runs]}"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        fields: dict[str, Any] = dict(self._texts())
        self.task = self.bar.add_task("", total=steps, **fields)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def step(self, run: str, step: int) -> None:
        """A run has done so many steps in all."""
        self.done[run] = step
        if self.console.is_terminal:
            self._update()
        elif time.monotonic() - self.spoken > SECONDS_BETWEEN_LINES:
            self.spoken = time.monotonic()
            self.console.print(", ".join(self._texts().values()))

    def finish(self, run: str, *, diverged: bool) -> None:
        """A run is complete. What a diverged one never trained counts as done."""
        self.finished += 1
        self.diverged += diverged
        self.done[run] = max(self.done.get(run, 0), self.total // self.runs)
        self._update()

    @property
    def trained(self) -> int:
        """Steps done, over all runs."""
        return sum(self.done.values())

    @property
    def speed(self) -> float:
        """Member-steps a second since the start."""
        return self.trained / max(time.monotonic() - self.begun, 1e-9)

    def _update(self) -> None:
        fields: dict[str, Any] = dict(self._texts())
        self.bar.update(self.task, completed=self.trained, **fields)

    def _texts(self) -> dict[str, str]:
        diverged = f" ({self.diverged} diverged)" if self.diverged else ""
        return {
            "runs": f"{self.finished}/{self.runs} runs{diverged}",
            "speed": f"{self.trained:,}/{self.total:,} steps, {self.speed:,.0f} member-steps/s",
        }
