"""What the studies here do alike: train a sweep, check its claims, write its report."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import initstudy.__main__

# What a reduced run cuts down whatever it is about.
REDUCED = [
    "data=digits",
    "data.subset=200",
    "batch_size=16",
    "max_steps=4",
    "log_every=2",
    "eval_every=4",
    "probes.every=2",
    "tracking=off",
]


def run(name: str, *arguments: str) -> None:
    """Trains what is missing of a sweep in runs/NAME, prints its claims, writes reports/NAME."""
    # As `python -m initstudy` has them: the report says how to do it again.
    sys.argv = [initstudy.__main__.__file__, *arguments, f"name={name}"]
    initstudy.__main__.main()
    report = Path("reports") / name
    shutil.rmtree(report, ignore_errors=True)
    # The page draws its charts itself, and a code host shows the pictures.
    shutil.copytree(Path("runs") / name / "report", report, ignore=shutil.ignore_patterns("*.svg"))


def choose(
    sweeps: dict[str, tuple[str, list[str]]], usage: str | None, reduced: list[str] | None = None
) -> None:
    """Runs the sweep that the command line names; further arguments go to the command.

    Args:
        sweeps: By what it is called there: the name of the study, and arguments of the command.
        usage: What to print where the command line names none.
        reduced: Arguments that cut the grids down, for `reduced`: every sweep on a handful of
            runs of a few steps, to see that it works.
    """
    chosen, further = sys.argv[1:2], sys.argv[2:]
    if chosen == ["reduced"]:
        for name, sweep in sweeps.values():
            run(f"{name}_reduced", *sweep, *REDUCED, *(reduced or []), *further)
    elif chosen and chosen[0] in sweeps:
        name, sweep = sweeps[chosen[0]]
        run(name, *sweep, *further)
    else:
        sys.exit(usage)
