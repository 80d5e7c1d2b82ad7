"""What the studies here do alike: train a sweep, check its claims, write its report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from initstudy.report import write


def run(name: str, *arguments: str) -> None:
    """Trains what is missing of a sweep in runs/NAME, writes reports/NAME, prints the claims."""
    subprocess.run([sys.executable, "-m", "initstudy", *arguments], check=True)
    report = write(Path("runs") / name, Path("reports") / name)
    for result in report.results:
        print(f"{result.verdict:9} {result.claim} ({result.facet}): {result.detail}")


def choose(sweeps: dict[str, tuple[str, list[str]]], usage: str | None) -> None:
    """Runs the sweep that the command line names; further arguments go to the command."""
    if len(sys.argv) < 2 or sys.argv[1] not in sweeps:
        sys.exit(usage)
    name, sweep = sweeps[sys.argv[1]]
    run(name, *sweep, *sys.argv[2:])
