"""The one error of the store, and how the operating system's errors become it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StoreError(ValueError):
    """The store cannot be read or written; the message is one line."""


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Turns an `OSError` inside of the block into a `StoreError` that names the folder.

    Args:
        folder: Where the block writes.

    Raises:
        StoreError: The block raised an `OSError`, such as for a disk that is full.

    Example:
        >>> with writing("/nowhere"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        initstudy.store.errors.StoreError: dir=/nowhere: cannot be written: No space left on device
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"dir={folder}: cannot be written: {error.strerror}") from error
