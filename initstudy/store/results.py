"""The results of a sweep on disk: Parquet, a pair of files a pack, and the study's description.

    DIR/study.json               what was asked: name, command, claims, versions; and the seconds
                                 from the start of the process to the first step, of the training
                                 from there on, and of the report
    DIR/store/PACK.runs.parquet      a row a run; it is written last, so a pack counts as a whole
    DIR/store/PACK.history.parquet   a row a run and step
    DIR/store/PACK.sha256            of both, in the form that `sha256sum -c` reads
    DIR/store/PACK.timing.json       what it took; apart, since no two trainings take the same time
    DIR/store/RUN.failed.json        a run that could not be trained: why, and its configuration

A file appears under its name only when it is complete (written beside it, synced, renamed), so a
kill at any moment leaves a store that can be read. A file that is damaged all the same is set aside
under the name NAME.damaged, and its runs count as not trained.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from initstudy.runtime.files import first_changed, sums, write_atomically

RUNS, HISTORY, FAILED = ".runs.parquet", ".history.parquet", ".failed.json"
SUMS, TIMING = ".sha256", ".timing.json"
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
    files = sorted((path / "store").glob(f"*{RUNS}"))
    if not files:
        raise StoreError(f"{path}: holds no finished run")
    runs = _read(files, _with_timing)
    history = _read([_beside(file, HISTORY) for file in files])
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


def packs(path: str | Path) -> dict[str, list[str]]:
    """The runs of each complete pack, in their order, in a directory that may not exist yet."""
    files = sorted((Path(path) / "store").glob(f"*{RUNS}"))
    columns = {file: _read_parquet(file, columns=["run"]) for file in files}
    return {file.name.removesuffix(RUNS): ids["run"].to_list() for file, ids in columns.items()}


def finished(path: str | Path) -> set[str]:
    """The ids of the runs that are complete in a sweep's directory, which may not exist yet."""
    return {run for runs in packs(path).values() for run in runs}


def set_aside_damaged(path: str | Path) -> list[str]:
    """Renames files of a sweep that cannot be read; gives a line for each pack so lost."""
    path = Path(path)
    lines = []
    for file in sorted((path / "store").glob(f"*{RUNS}")):
        if damaged := _damaged(file):
            lines.append(f"{damaged}: damaged, set aside; its runs are trained again")
            for part in (file, _beside(file, HISTORY), _beside(file, SUMS)):
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
    _write(Path(path) / "store" / f"{run}{FAILED}", text.encode())


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
    seconds: float | None = None,
) -> None:
    """Adds the complete runs of one pack.

    Args:
        path: The sweep's directory.
        pack: The pack's id.
        runs: A row a run.
        history: A row a run and step.
        seconds: What each run's share of the training took.

    Raises:
        StoreError: The directory cannot be written.
    """
    folder = Path(path) / "store"
    contents = {f"{pack}{HISTORY}": _as_parquet(history), f"{pack}{RUNS}": _as_parquet(runs)}
    if seconds is not None:
        _write(folder / f"{pack}{TIMING}", json.dumps({"seconds": seconds}).encode())
    _write(folder / f"{pack}{SUMS}", sums(contents).encode())
    for name, content in contents.items():
        _write(folder / name, content)


def read_pack(path: str | Path, pack: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """The runs and the history of one pack; None where it is not complete.

    Raises:
        StoreError: A file is damaged.
    """
    file = Path(path) / "store" / f"{pack}{RUNS}"
    return (_read_parquet(file), _read_parquet(_beside(file, HISTORY))) if file.exists() else None


def write_study(path: str | Path, study: Mapping[str, Any]) -> None:
    """Writes the study's description.

    Raises:
        StoreError: The directory cannot be written.
    """
    text = json.dumps(study, indent=2)
    _write(Path(path) / STUDY, text.encode())


def ensure_writable(path: str | Path) -> None:
    """Makes a sweep's directory and tries to write there.

    Raises:
        StoreError: It cannot be written.
    """
    probe = Path(path) / "store" / f".probe-{os.getpid()}"
    _write(probe, b"")
    probe.unlink()


def _write(file: Path, content: bytes) -> None:
    try:
        write_atomically(file, lambda partial: partial.write_bytes(content))
    except OSError as error:
        raise StoreError(f"dir={file.parent}: cannot be written: {error.strerror}") from error


def _as_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(buffer)
    return buffer.getvalue()


def _beside(runs: Path, kind: str) -> Path:
    """A file of the same pack."""
    return runs.with_name(runs.name.removesuffix(RUNS) + kind)


def _read(
    files: Sequence[Path], complete: Callable[[Path, pl.DataFrame], pl.DataFrame] | None = None
) -> pl.DataFrame:
    frames = [_read_parquet(file) for file in files]
    if complete:
        frames = [complete(file, frame) for file, frame in zip(files, frames, strict=True)]
    # Packs of different models have different columns, and a column that was null throughout
    # one pack has no type there.
    return pl.concat(frames, how="diagonal_relaxed")


def _with_timing(file: Path, runs: pl.DataFrame) -> pl.DataFrame:
    """The runs of a pack with what they took, where that can be read: no result rests on it."""
    try:
        seconds = json.loads(_beside(file, TIMING).read_text())["seconds"]
        return runs.with_columns(pl.lit(float(seconds)).alias("seconds"))
    except (OSError, ValueError, KeyError, TypeError):
        return runs


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


def _damaged(runs: Path) -> Path | None:
    """The first file of a pack that is not as it was written.

    Sums see every changed bit. Packs without them are decoded, which sees what no longer decodes.
    """
    pair = (runs, _beside(runs, HISTORY))
    if _beside(runs, SUMS).exists():
        return first_changed(_beside(runs, SUMS), pair)
    return next((file for file in pair if not _decodes(file)), None)


def _decodes(file: Path) -> bool:
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
