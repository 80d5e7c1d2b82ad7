"""The results of a sweep on disk: Parquet, a pair of files a pack, and the study's description.

    DIR/study.json               what was asked: name, command, claims, versions
    DIR/store/PACK.runs.parquet      a row a run; it is written last, so a pack counts as a whole
    DIR/store/PACK.history.parquet   a row a run and step
    DIR/store/RUN.failed.json        a run that could not be trained: why, and its configuration

A file appears under its name only when it is complete (written beside it, synced, renamed), so a
kill at any moment leaves a store that can be read. A file that is damaged all the same is set aside
under the name NAME.damaged, and its runs count as not trained.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

RUNS, HISTORY, FAILED = ".runs.parquet", ".history.parquet", ".failed.json"
STUDY = "study.json"


class StoreError(ValueError):
    """The store cannot be read or written; the message is one line."""


@dataclass(frozen=True)
class Store:
    """What a sweep has trained so far.

    Attributes:
        runs: A row a run: `run`, the configuration as dotted columns, the summary.
        history: `run`, `step`, and a column a metric. NaN is a value that was measured and is not
            a number; null was not measured.
        study: The study's description.
    """

    runs: pl.DataFrame
    history: pl.DataFrame
    study: dict[str, Any]


def load(path: str | Path) -> Store:
    """Reads a sweep's directory.

    Raises:
        StoreError: There is no such directory, or no complete run in it, or a file is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise StoreError(f"{path}: no such directory; give one that a sweep has written")
    packs = [file.name.removesuffix(RUNS) for file in sorted((path / "store").glob(f"*{RUNS}"))]
    if not packs:
        raise StoreError(f"{path}: holds no finished run")
    runs = _read([path / "store" / f"{pack}{RUNS}" for pack in packs])
    history = _read([path / "store" / f"{pack}{HISTORY}" for pack in packs])
    study = read_study(path)
    if failed := failures(path):
        study["failed"] = failed
    return Store(runs.unique("run", keep="last", maintain_order=True), history, study)


def read_study(path: str | Path) -> dict[str, Any]:
    """The study's description; empty where there is none yet."""
    file = Path(path) / STUDY
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: cannot be read: {error}; remove it and run again") from error


def finished(path: str | Path) -> set[str]:
    """The ids of the runs that are complete in a sweep's directory, which may not exist yet."""
    files = sorted((Path(path) / "store").glob(f"*{RUNS}"))
    return {run for file in files for run in _read_parquet(file, columns=["run"])["run"]}


@contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Holds a sweep's directory, which may not exist yet, for this process alone.

    The operating system holds the lock, so that a process that dies leaves none behind.

    Raises:
        StoreError: Another process holds it, or the directory cannot be written.
    """
    from filelock import FileLock, Timeout

    file = Path(path) / ".lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(file).acquire(timeout=0)
    except Timeout as error:
        raise StoreError(
            f"dir={path}: another sweep is writing there; wait for it, or choose another name="
        ) from error
    except OSError as error:
        raise StoreError(f"dir={path}: cannot be written: {error.strerror}") from error
    with held:
        yield


def set_aside_damaged(path: str | Path) -> list[str]:
    """Renames files of a sweep that cannot be read; gives a line for each pack so lost."""
    path = Path(path)
    lines = []
    for file in sorted((path / "store").glob(f"*{RUNS}")):
        pair = (file, file.with_name(file.name.removesuffix(RUNS) + HISTORY))
        damaged = [part for part in pair if not _is_sound(part)]
        if damaged:
            lines.append(f"{damaged[0]}: damaged, set aside; its runs are trained again")
            for part in pair:
                _set_aside(part)
    try:
        read_study(path)
    except StoreError:
        lines.append(f"{path / STUDY}: damaged, set aside; it is written anew")
        _set_aside(path / STUDY)
    return lines


def write_failure(path: str | Path, run: str, reason: str, config: Mapping[str, Any]) -> None:
    """Records a run that could not be trained.

    Raises:
        StoreError: The directory cannot be written.
    """
    text = json.dumps({"run": run, "reason": reason, "config": config}, indent=2, default=str)
    _atomically(Path(path) / "store" / f"{run}{FAILED}", lambda file: file.write_text(text))


def failures(path: str | Path) -> dict[str, str]:
    """Why runs could not be trained, by id; those trained since are not among them."""
    files = sorted((Path(path) / "store").glob(f"*{FAILED}"))
    done = finished(path) if files else set()
    records = [_read_failure(file) for file in files]
    return {run: reason for run, reason in records if run not in done}


def write_pack(
    path: str | Path,
    pack: str,
    runs: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
) -> None:
    """Adds the complete runs of one pack.

    Raises:
        StoreError: The directory cannot be written.
    """
    folder = Path(path) / "store"
    frame = pl.DataFrame(history, infer_schema_length=None)
    _atomically(folder / f"{pack}{HISTORY}", frame.write_parquet)
    frame = pl.DataFrame(runs, infer_schema_length=None)
    _atomically(folder / f"{pack}{RUNS}", frame.write_parquet)


def read_pack(path: str | Path, pack: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """The runs and the history of one pack; None where it is not complete.

    Raises:
        StoreError: A file is damaged.
    """
    file = Path(path) / "store" / f"{pack}{RUNS}"
    if not file.exists():
        return None
    return _read_parquet(file), _read_parquet(file.with_name(f"{pack}{HISTORY}"))


def write_text(file: Path, text: str) -> None:
    """Writes a small file so that whoever reads it sees all of it or none.

    Raises:
        StoreError: The directory cannot be written.
    """
    _atomically(file, lambda partial: partial.write_text(text))


def write_study(path: str | Path, study: Mapping[str, Any]) -> None:
    """Writes the study's description.

    Raises:
        StoreError: The directory cannot be written.
    """
    text = json.dumps(study, indent=2)
    _atomically(Path(path) / STUDY, lambda file: file.write_text(text))


def ensure_writable(path: str | Path) -> None:
    """Makes a sweep's directory and tries to write there.

    Raises:
        StoreError: It cannot be written.
    """
    probe = Path(path) / "store" / f".probe-{os.getpid()}"
    _atomically(probe, lambda file: file.write_text(""))
    probe.unlink()


def _atomically(file: Path, write: Callable[[Path], object]) -> None:
    # Machines that share the directory may have processes of the same number.
    partial = file.with_name(f".{file.name}.{platform.node()}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())
        partial.replace(file)
    except OSError as error:
        raise StoreError(f"dir={file.parent}: cannot be written: {error.strerror}") from error


def _read(files: Sequence[Path]) -> pl.DataFrame:
    # Packs of different models have different columns, and a column that was null throughout
    # one pack has no type there.
    return pl.concat([_read_parquet(file) for file in files], how="diagonal_relaxed")


def _set_aside(file: Path) -> None:
    if file.exists():
        file.replace(file.with_name(f"{file.name}.damaged"))


def _read_failure(file: Path) -> tuple[str, str]:
    """The run and the reason; a record that is damaged still says that its run failed."""
    try:
        record = json.loads(file.read_text())
        return record["run"], record["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        return file.name.removesuffix(FAILED), "its record is damaged"


def _is_sound(file: Path) -> bool:
    try:
        _read_parquet(file)
    except StoreError:
        return False
    return True


def _read_parquet(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(file, columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{file}: cannot be read: {reason}; the same sweep sets it aside and trains its runs "
            "again"
        ) from error
