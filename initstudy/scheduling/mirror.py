"""From the store to the tracker: a pack that another process has trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from initstudy import store
from initstudy.config import as_columns
from initstudy.scheduling.execute import Tracker, describe
from initstudy.scheduling.packing import halves
from initstudy.training.group import Pack


@dataclass(frozen=True)
class Outcome:
    """How far a run came that another process has trained."""

    step: int
    diverged: bool


def mirror(directory: Path, pack: Pack, tracker: Tracker) -> dict[str, Outcome]:
    """Promises the runs of a pack to the tracker, which takes their rows from the store.

    Returns:
        The runs that the store has, by id; one that failed is not among them.
    """
    stored = store.read_pack(directory, pack.id)
    if stored is None:
        # Halved for want of memory, or because of a run that failed.
        parts = halves(pack) if len(pack.runs) > 1 else []
        return {
            run: ends for part in parts for run, ends in mirror(directory, part, tracker).items()
        }
    rows, history = stored
    described = describe(pack)
    last = dict(history.group_by("run").agg(pl.col("step").max()).iter_rows())
    promised, mirrored = [], {}
    for run in pack.runs:
        row = rows.row(by_predicate=pl.col("run") == run.id, named=True)
        of_config = {"run", *run.choices, *as_columns(run.config)}
        ends = {key: value for key, value in row.items() if key not in of_config}
        promised.append((run, described[run.id], ends))
        mirrored[run.id] = Outcome(last.get(run.id, 0), row["diverged_step"] is not None)
    tracker.promise(pack.id, promised)
    tracker.finish(pack.id)
    return mirrored
