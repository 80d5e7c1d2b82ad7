"""Runs that were trained with other code or other data than the same runs of today's grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from initstudy import store
from initstudy.config import Run, flatten
from initstudy.training.identity import FINGERPRINTS


@dataclass(frozen=True)
class Superseded:
    """A finished run whose code or data have changed since.

    Attributes:
        id: The run's id.
        changed: What has changed: "the data", or targets of the user's own.
    """

    id: str
    changed: tuple[str, ...]


def superseded(directory: Path, runs: Sequence[Run]) -> list[Superseded]:
    """The finished runs of a study that today's grid has anew, with other code or data.

    Args:
        directory: The study's directory.
        runs: Today's grid.

    Raises:
        StoreError: The directory cannot be read.
    """
    today = {r.config[FINGERPRINTS]["point"]: r for r in runs if FINGERPRINTS in r.config}
    if not today:
        return []
    old = []
    for row in store.fingerprints(directory):
        run = today.get(row[f"{FINGERPRINTS}.point"])
        if run is not None and row["run"] != run.id:
            now = flatten({FINGERPRINTS: run.config[FINGERPRINTS]})
            names = [name for name in now.keys() | row.keys() if name.startswith(FINGERPRINTS)]
            changed = sorted(_said(name) for name in names if row.get(name) != now.get(name))
            old.append(Superseded(row["run"], tuple(changed)))
    return old


def told(runs: Sequence[Superseded]) -> Iterator[str]:
    """A line for everything that has changed, with how many runs were trained before."""
    counts = Counter(name for run in runs for name in run.changed)
    for name, count in counts.items():
        plural = "runs were" if count > 1 else "run was"
        yield f"{name} changed since {count} {plural} trained, which the report leaves out"


def _said(column: str) -> str:
    name = column.removeprefix(f"{FINGERPRINTS}.")
    return "the data" if name == "data" else name.removeprefix("code.")
