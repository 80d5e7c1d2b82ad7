"""Where a report reads its results: a study's store, offline W&B runs, a W&B project."""

from __future__ import annotations

from pathlib import Path

from initstudy.columns import DIVERGED_STEP, RUN, TRAIN_LOSS, Schema
from initstudy.report.data.sources import offline, online
from initstudy.store import Store, StoreError, load

ONLINE = "wandb:"
# What every run has besides its study's objective.
REQUIRED = (RUN.name, "model._target_", "seed", TRAIN_LOSS.name, DIVERGED_STEP.name)


def read(source: str | Path) -> Store:
    """The results behind a report, as the same tables wherever they come from.

    Args:
        source: A study's directory; a folder with offline W&B runs, such as `runs/std_grid/wandb`;
            or `wandb:ENTITY/PROJECT?group=GROUP`, for runs on a W&B server.

    Raises:
        StoreError: There is nothing to read there, or no permission to, or another version wrote
            it.
    """
    store = _read(source)
    required = (*REQUIRED, Schema.described(store.study).objective)
    missing = [column for column in required if column not in store.runs.columns]
    if missing:
        raise StoreError(
            f"{source}: written by another version, it has no {', '.join(missing)}; "
            "train it again under another name="
        )
    return store


def _read(source: str | Path) -> Store:
    if str(source).startswith(ONLINE):
        return online.read(str(source).removeprefix(ONLINE))
    path = Path(source)
    if not (path / "store").is_dir() and offline.files(path):
        return offline.read(path)
    return load(path)
