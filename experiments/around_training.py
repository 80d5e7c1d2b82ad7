"""What a study costs besides training: start-up, composing, planning, storing, the report.

    pip install -e ".[throughput]"
    python experiments/around_training.py                 # two minutes
    python experiments/around_training.py --runs 100 --mirrored 10

Runs of a single step on digits leave little else. The script also measures what an offline mirror
in W&B adds per run. It prints a table with the targets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from contenders.memory import Watch

TO_FIRST_STEP, PLANNING, REPORT = 4.0, 10.0, 30.0
STDS = "0.02,0.03,0.05,0.1,0.2"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="a multiple of 5")
    parser.add_argument(
        "--mirrored", type=int, default=1_000, help="runs with W&B offline, a multiple of 5"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(given.runs, given.mirrored, measured(given.runs, given.mirrored, Path(folder)))


def measured(runs: int, mirrored: int, folder: Path) -> dict[str, Mapping[str, float]]:
    """Measures a study of five runs, one of many, and two of some, with and without W&B."""
    # What is compiled once per machine does not belong to a study.
    study(folder / "first", 5, "off")
    return {
        "few": study(folder / "few", 5, "off"),
        "many": study(folder / "many", runs, "off"),
        "alone": study(folder / "alone", mirrored, "off"),
        "mirrored": study(folder / "mirrored", mirrored, "offline"),
    }


def study(directory: Path, runs: int, tracking: str) -> dict[str, float]:
    """Runs one command; returns the times that it records, its memory and its store's size."""
    command = [
        sys.executable,
        "-m",
        "initstudy",
        "-m",
        f"init.std={STDS}",
        f"seed=range({runs // 5})",
        "max_steps=1",
        f"tracking={tracking}",
        "by=init.std",
        f"dir={directory}",
        "device=cpu",
    ]
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=directory.parent, stdout=subprocess.DEVNULL) as process:
        watch = Watch(process.pid)
        code = process.wait()
    whole = time.perf_counter() - begun
    peak = watch.end()
    if code:
        raise SystemExit(f"{' '.join(command)} left with code {code}")
    noted = json.loads((directory / "study.json").read_text())["seconds"]
    stored = sum(file.stat().st_size for file in (directory / "store").rglob("*"))
    return {**noted, "whole": whole, "peak": peak, "stored": stored}


def show(runs: int, mirrored: int, found: Mapping[str, Mapping[str, float]]) -> None:
    """Prints the table."""
    few, many = found["few"], found["many"]
    wandb = found["mirrored"]["whole"] - found["alone"]["whole"]
    first = few["to_first_step"]
    planning = many["to_first_step"] - first
    lines = [
        ("from the command to the first step, five runs", first, None, TO_FIRST_STEP),
        (f"composing, checking and planning {runs:,} more runs", planning, runs, PLANNING),
        (
            f"training {runs:,} runs for one step each, and storing them",
            many["training"],
            runs,
            None,
        ),
        (f"the report over {runs:,} runs", many["report"], runs, REPORT),
        (f"the whole command, {runs:,} runs", many["whole"], runs, None),
        (f"W&B offline, for {mirrored:,} runs", wandb, mirrored, None),
    ]
    table = Table("what", "seconds", "ms per run", "target")
    for what, seconds, count, most in lines:
        share = f"{1000 * seconds / count:.2f}" if count else ""
        verdict = f"at most {most:g}: {'PASS' if seconds <= most else 'FAIL'}" if most else ""
        table.add_row(what, f"{seconds:.1f}", share, verdict)
    console = Console()
    console.print(table)
    stored = many["stored"] / runs / 1024
    console.print(
        f"memory at most {many['peak'] / 1e9:.2f} GB; {stored:.1f} KB per run in the store"
    )


if __name__ == "__main__":
    main()
