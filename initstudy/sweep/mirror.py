"""From the store to the tracker: a pack that another process has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from initstudy import store
from initstudy.sweep.execute import Tracker, columns
from initstudy.sweep.plan import Pack, halves


def mirror(directory: Path, pack: Pack, tracker: Tracker) -> dict[str, bool]:
    """Hands every row of a pack to the tracker, as if it had been trained here.

    Returns:
        Whether each run of the pack diverged, by id; one that failed did not.
    """
    diverged = dict.fromkeys((run.id for run in pack.runs), False)
    stored = store.read_pack(directory, pack.id)
    if stored is None:
        # Halved for want of memory, or because of a run that failed.
        parts = halves(pack) if len(pack.runs) > 1 else []
        for part in parts:
            diverged |= mirror(directory, part, tracker)
        return diverged
    rows, history = stored
    for run in pack.runs:
        summary = rows.row(by_predicate=pl.col("run") == run.id, named=True)
        of_config = {"run", "seconds", *run.choices, *columns(run)}
        tracker.start(run.id, run.config, run.label)
        for row in history.filter(pl.col("run") == run.id).iter_rows(named=True):
            values: dict[str, Any] = {k: v for k, v in row.items() if k not in ("run", "step")}
            tracker.log(run.id, row["step"], values)
        tracker.finish(run.id, {k: v for k, v in summary.items() if k not in of_config})
        diverged[run.id] = summary["diverged_step"] is not None
    return diverged
