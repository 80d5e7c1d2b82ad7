"""Where a report reads its results: a sweep's store, offline W&B runs, a W&B project."""

from __future__ import annotations

from pathlib import Path

from initstudy.report.data.sources import offline, online
from initstudy.store import Store, StoreError, load

ONLINE = "wandb:"
# What every run has.
REQUIRED = (
    "run",
    "model._target_",
    "seed",
    "train/loss",
    "test/loss",
    "test/accuracy",
    "diverged_step",
)


def read(source: str | Path) -> Store:
    """The results behind a report, as the same frames wherever they come from.

    Args:
        source: A sweep's directory; a folder with offline W&B runs, such as `runs/std_grid/wandb`;
            or `wandb:ENTITY/PROJECT?group=GROUP`, for runs on a W&B server.

    Raises:
        StoreError: There is nothing to read there, or no permission to, or another version wrote
            it.
    """
    found = _found(source)
    missing = [column for column in REQUIRED if column not in found.runs.columns]
    if missing:
        raise StoreError(
            f"{source}: written by another version, it has no {', '.join(missing)}; "
            "train it again under another name="
        )
    return found


def _found(source: str | Path) -> Store:
    if str(source).startswith(ONLINE):
        return online.read(str(source).removeprefix(ONLINE))
    path = Path(source)
    if not (path / "store").is_dir() and offline.files(path):
        return offline.read(path)
    return load(path)
