"""How files come to be on disk, whole or not at all, and whether they are still as written."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

PARTIAL = ".partial"


def write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    """Makes a file appear under its name complete, or not at all.

    It is written beside its place, synced and renamed, and the folder is synced, so that the name
    is there after a loss of power as well.

    Args:
        file: Where it shall be; missing folders are made.
        write: Writes the content to the path that it is given.

    Raises:
        OSError: It cannot be written. What `write` raises passes through; nothing is left behind.
    """
    _make(file.parent)
    partial = file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}{PARTIAL}")
    try:
        write(partial)
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())
        partial.replace(file)
    except BaseException:
        # On a full disk a half of a file would be in the way of everything else.
        partial.unlink(missing_ok=True)
        raise
    _sync(file.parent)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Removes what processes of this machine that are no more have left half written.

    What another machine writes, or one process of this one still does, stays.
    """
    for folder in folders:
        for file in folder.glob(f".*{PARTIAL}"):
            name, _, pid = file.name.removesuffix(PARTIAL).rpartition(".")
            ours = name.endswith(f".{socket.gethostname()}") and pid.isdecimal()
            if ours and not _is_running(int(pid)):
                file.unlink(missing_ok=True)


def sums(contents: Mapping[str, bytes | Path]) -> str:
    """The SHA-256 of contents, or of files, by name, in the form that `sha256sum -c` reads."""
    return "".join(f"{_digest(content)}  {name}\n" for name, content in contents.items())


def first_changed(written: Path, files: Iterable[Path]) -> Path | None:
    """The first of some files that is not as its sum says, or the file of the sums itself."""
    try:
        digests = read_sums(written)
        return next((f for f in files if _digest(f) != digests.get(f.name)), None)
    except OSError as error:
        return Path(error.filename)
    except ValueError:
        return written


def read_sums(written: Path) -> dict[str, str]:
    """The sums in a file, by name.

    Raises:
        OSError, ValueError: It cannot be read.
    """
    lines = written.read_text().splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def cache() -> Path:
    """The user's folder of what can be made anew (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "initstudy"


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    # Where a folder cannot be opened as a file (Windows), its names cannot be synced either.
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
