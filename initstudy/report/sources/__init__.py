"""Where a report reads its results: a sweep's store, offline W&B runs, a W&B project."""

from __future__ import annotations

from pathlib import Path

from initstudy.report.sources import offline, online
from initstudy.store import Store, load

ONLINE = "wandb:"


def read(source: str | Path) -> Store:
    """The results behind a report, as the same frames wherever they come from.

    Args:
        source: A sweep's directory; a folder with offline W&B runs, such as `runs/std_grid/wandb`;
            or `wandb:ENTITY/PROJECT?group=GROUP`, for runs on a W&B server.

    Raises:
        StoreError: There is nothing to read there, or no permission to.
    """
    if str(source).startswith(ONLINE):
        return online.read(str(source).removeprefix(ONLINE))
    path = Path(source)
    if not (path / "store").is_dir() and offline.files(path):
        return offline.read(path)
    return load(path)
