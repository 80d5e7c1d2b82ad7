"""The results of a study on disk: two Parquet files per pack, and the study's description.

    DIR/study.json                   what was asked: name, command, claims, versions; and the
                                     seconds that it took until the first step, in training and
                                     for the report
    DIR/store/PACK.runs.parquet      summaries, one row per run; it is written last, so that a pack
                                     is there as a whole or not at all
    DIR/store/PACK.history.parquet   one row per run and step
    DIR/store/PACK.sha256            the checksums of both, in the form that `sha256sum -c` reads
    DIR/store/PACK.timing.json       how long the pack trained; apart from the results, because no
                                     two trainings take the same time
    DIR/store/RUN.failed.json        a run that could not be trained: why, and its configuration

A column has the same type in every file (`initstudy.store.tables`), so that any Parquet reader
takes `DIR/store/*.runs.parquet` as one table. docs/columns.md says what the columns mean.

A file appears under its name only when it is complete: it is written beside its final path, synced
and renamed. A kill at any moment therefore leaves a store that can be read. A file that is damaged
all the same is renamed to NAME.damaged, and its runs count as not trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from initstudy.columns import SECONDS
from initstudy.runtime.files import first_changed, sums, write_atomically
from initstudy.store.errors import StoreError, writing
from initstudy.store.tables import (
    FORMAT,
    FORMAT_KEY,
    Rows,
    as_parquet,
    history_table,
    runs_table,
    with_whole_numbers,
    without_empty,
)

RUNS, HISTORY, FAILED = ".runs.parquet", ".history.parquet", ".failed.json"
SUMS, TIMING = ".sha256", ".timing.json"
STUDY = "study.json"


@dataclass(frozen=True)
class Store:
    """What a study has trained so far.

    Attributes:
        runs: One row per run: `run`, the configuration under dotted keys, the summary.
        history: One row per run and step: `run`, `step`, and one column per metric. NaN is a value
            that was measured and is not a number; null was not measured.
        study: The study's description.
    """

    runs: pl.DataFrame
    history: pl.DataFrame
    study: dict[str, Any]


def load(path: str | Path) -> Store:
    """Reads the results in a study's directory.

    Runs that were trained with other code or data than the same runs of the study's last command
    are left out.

    Raises:
        StoreError: There is no such directory, it holds no finished run, a file is damaged, or
            another version has written it.
    """
    path = Path(path)
    if not path.is_dir():
        raise StoreError(f"{path}: no such directory; give one that a study has written")
    files = _runs_files(path)
    if not files:
        raise StoreError(f"{path}: holds no finished run")
    runs = _concatenated([_with_timing(file, _read_runs(file)) for file in files])
    history = _concatenated([_read_parquet(_beside(file, HISTORY)) for file in files])
    study = read_study(path)
    if failed := failures(path):
        study["failed"] = failed
    if superseded := study.get("superseded"):
        runs, history = (t.filter(~pl.col("run").is_in(superseded)) for t in (runs, history))
    if runs.is_empty():
        raise StoreError(f"{path}: holds no finished run")
    runs = with_whole_numbers(runs.unique("run", keep="last", maintain_order=True))
    return Store(without_empty(runs), without_empty(history), study)


def read_study(path: str | Path) -> dict[str, Any]:
    """Reads the study's description, which is empty before the study has written one.

    Raises:
        StoreError: The file is damaged.
    """
    file = Path(path) / STUDY
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: cannot be read: {error}; remove it and run again") from error


def packs(path: str | Path) -> dict[str, list[str]]:
    """Lists the complete packs of a directory, which may not exist yet.

    Returns:
        The ids of each pack's runs, in the order of its members, by the pack's id.

    Raises:
        StoreError: A file is damaged, or another version has written it.
    """
    ids = {file: _read_runs(file, ["run"])["run"].to_list() for file in _runs_files(path)}
    return {file.name.removesuffix(RUNS): runs for file, runs in ids.items()}


def finished(path: str | Path) -> set[str]:
    """The ids of the complete runs of a directory, which may not exist yet.

    Raises:
        StoreError: A file is damaged, or another version has written it.
    """
    return {run for runs in packs(path).values() for run in runs}


def fingerprints(path: str | Path) -> list[dict[str, str]]:
    """The fingerprints of the complete runs that have some.

    Returns:
        For each run its id under "run", and its fingerprints by column.

    Raises:
        StoreError: A file is damaged, or another version has written it.
    """
    rows: list[dict[str, str]] = []
    for file in _runs_files(path):
        names = [n for n in pl.read_parquet_schema(file) if n.startswith("fingerprints.")]
        if names:
            table = _read_runs(file, ["run", *names]).drop_nulls("fingerprints.point")
            rows += [{k: v for k, v in row.items() if v is not None} for row in table.to_dicts()]
    return rows


def summaries(path: str | Path, column: str) -> dict[str, float | None]:
    """The value of one column for each complete run, by the run's id; null where it has none.

    Raises:
        StoreError: A file is damaged, or another version has written it.
    """
    found: dict[str, float | None] = {}
    for file in _runs_files(path):
        names = [name for name in ("run", column) if name in pl.read_parquet_schema(file)]
        rows = _read_runs(file, names)
        found |= dict.fromkeys(rows["run"]) if column not in rows else dict(rows.iter_rows())
    return found


def set_aside_damaged(path: str | Path) -> list[str]:
    """Renames the files of a study that are damaged.

    Returns:
        One line for each pack that is lost by that, and for the description if it is damaged.
    """
    path = Path(path)
    lines = []
    for file in _runs_files(path):
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
    """Why runs could not be trained, by the run's id; those trained since are left out."""
    files = sorted((Path(path) / "store").glob(f"*{FAILED}"))
    done = finished(path) if files else set()
    records = [_read_failure(file) for file in files]
    return {run: reason for run, reason in records if run not in done}


def write_pack(
    path: str | Path,
    pack: str,
    runs: Rows,
    history: Rows,
    seconds: float | None = None,
) -> None:
    """Adds the runs of one pack, all of which are complete.

    Args:
        path: The study's directory.
        pack: The pack's id.
        runs: One mapping per run: `run`, the configuration under dotted keys, the summary.
        history: One mapping per run and step: `run`, `step`, and what was measured then.
        seconds: Each run's share of the time that the pack took to train.

    Raises:
        StoreError: The directory cannot be written.
    """
    folder = Path(path) / "store"
    contents = {
        f"{pack}{HISTORY}": as_parquet(history_table(history)),
        f"{pack}{RUNS}": as_parquet(runs_table(runs)),
    }
    if seconds is not None:
        _write(folder / f"{pack}{TIMING}", json.dumps({"seconds": seconds}).encode())
    _write(folder / f"{pack}{SUMS}", sums(contents).encode())
    for name, content in contents.items():
        _write(folder / name, content)


def read_pack(path: str | Path, pack: str) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Reads the summaries and the histories of one pack, or None if it is not complete.

    Raises:
        StoreError: A file is damaged, or another version has written it.
    """
    file = Path(path) / "store" / f"{pack}{RUNS}"
    if not file.exists():
        return None
    return without_empty(_read_runs(file)), without_empty(_read_parquet(_beside(file, HISTORY)))


def write_study(path: str | Path, study: Mapping[str, Any]) -> None:
    """Writes the study's description.

    Raises:
        StoreError: The directory cannot be written.
    """
    text = json.dumps(study, indent=2)
    _write(Path(path) / STUDY, text.encode())


def ensure_writable(path: str | Path) -> None:
    """Creates a study's directory and tries to write there.

    Raises:
        StoreError: It cannot be written.
    """
    probe = Path(path) / "store" / f".probe-{os.getpid()}"
    _write(probe, b"")
    probe.unlink()


def _write(file: Path, content: bytes) -> None:
    with writing(file.parent):
        write_atomically(file, lambda partial: partial.write_bytes(content))


def _runs_files(path: str | Path) -> list[Path]:
    return sorted((Path(path) / "store").glob(f"*{RUNS}"))


def _beside(runs: Path, kind: str) -> Path:
    """Another file of the same pack."""
    return runs.with_name(runs.name.removesuffix(RUNS) + kind)


def _concatenated(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    # Packs of different models have different columns. Relaxed, because an argument of a user's
    # model may be a number in one pack and text in another.
    return pl.concat(frames, how="diagonal_relaxed")


def _with_timing(file: Path, runs: pl.DataFrame) -> pl.DataFrame:
    """Adds the time that each run took, if it can be read: no result depends on it."""
    try:
        seconds = float(json.loads(_beside(file, TIMING).read_text())["seconds"])
        return runs.with_columns(pl.lit(seconds).alias(SECONDS.name))
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
    """The first file of a pack that is not as it was written, or None if both are.

    Checksums notice every changed bit. Packs without them are decoded, which notices only what can
    no longer be decoded.
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


def _read_runs(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Reads the summaries of a pack that this version's format can hold."""
    table = _read_parquet(file, columns)
    if pl.read_parquet_metadata(file).get(FORMAT_KEY) != FORMAT:
        raise StoreError(
            f"dir={file.parent.parent}: written by another version of initstudy, whose files this "
            "one does not read; train it again under another name="
        )
    return table


def _read_parquet(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(file, columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{file}: cannot be read: {reason}; the same command sets it aside and trains its runs "
            "again"
        ) from error
