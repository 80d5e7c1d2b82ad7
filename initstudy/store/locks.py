"""One process at a time in a study's directory, by a lock of the operating system."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from initstudy.runtime.files import remove_leftovers
from initstudy.store.errors import StoreError, writing


@contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Locks a study's directory, which may not exist yet, for this process.

    The operating system holds the lock, so that a process that dies leaves no lock behind.

    Raises:
        StoreError: Another process holds it, or the directory cannot be written.
    """
    from filelock import FileLock, Timeout

    file = Path(path) / ".lock"
    with writing(path):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(file).acquire(timeout=0)
        except Timeout as error:
            # A Timeout is an OSError as well.
            raise StoreError(
                f"dir={path}: another process is writing there; wait for it, or choose another "
                "name="
            ) from error
    with held:
        folders = (Path(path), *(Path(path) / name for name in ("store", "jobs", "wandb-pending")))
        remove_leftovers(itertools.chain(folders, (Path(path) / "runs").glob("*")))
        yield


def is_locked(path: str | Path) -> bool:
    """Whether a process holds the lock of a study's directory."""
    from filelock import FileLock, Timeout

    file = Path(path) / ".lock"
    if not file.exists():
        return False
    try:
        with FileLock(file).acquire(timeout=0):
            return False
    except Timeout:
        return True
