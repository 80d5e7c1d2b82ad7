"""The whole study against an ordinary script: start-up, statistics, W&B and report included."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark.measure import EXPERIMENTS, OURS, PLAIN, Result, tell

EPOCHS = 60


def measure(scale: float, repeats: int) -> dict[str, list[Result]]:
    """Seconds of `+sweep=std_grid` and of `plain_loop.py` as whole processes, in turn."""
    epochs = epochs_at(scale)
    commands = {
        PLAIN: [sys.executable, str(EXPERIMENTS / "plain_loop.py"), f"--epochs={epochs}"],
        OURS: [
            sys.executable,
            "-m",
            "initstudy",
            "+sweep=std_grid",
            "seed=0,1,2",
            f"epochs={epochs}",
        ],
    }
    found: dict[str, list[Result]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            found[name].append({"seconds": _seconds(command)})
            tell(f"whole command, {name}: {found[name][-1]['seconds']:.1f} s")
    return found


def epochs_at(scale: float) -> int:
    """Epochs of every run."""
    return max(1, round(EPOCHS * scale))


def _seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        subprocess.run(command, cwd=Path(folder), check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun
