"""How much faster is the whole study than an ordinary script? Both, in turn, in one run.

    python experiments/throughput.py [--repeats 3] [--epochs 60]

Alternates `python -m initstudy +sweep=std_grid` and `experiments/plain_loop.py`: the same 42 runs,
the same statistics at the same steps, an offline W&B run each; start-up and report included. Prints
every repetition and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent


def seconds(command: list[str], folder: Path) -> float:
    """How long a command takes as a whole process, in a folder of its own."""
    folder.mkdir()
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    epochs = arguments.epochs
    contenders = {
        "plain loop": [
            sys.executable, str((HERE / "plain_loop.py").resolve()), f"--epochs={epochs}",
        ],
        "initstudy": [
            sys.executable, "-m", "initstudy", "+sweep=std_grid", f"epochs={epochs}",
        ],
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(arguments.repeats):
            for name, command in contenders.items():
                folder = Path(scratch) / f"{name.replace(' ', '_')}_{repeat}"
                times[name].append(seconds(command, folder))
                print(f"{name}: {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table("42 runs, whole command", "seconds", "median", "times faster")
    for name, values in times.items():
        ratio = medians["plain loop"] / medians[name]
        each = ", ".join(f"{v:.1f}" for v in values)
        table.add_row(name, each, f"{medians[name]:.1f}", f"{ratio:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{epochs} epochs of digits; {os.cpu_count()} cores, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
