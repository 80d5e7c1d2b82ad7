"""Rows as Parquet tables in which a column has the same type in every file.

The type of a column depends on its name alone wherever that is possible, never on what else a pack
holds: pyarrow, pandas and duckdb take the types of a table from its first file, and refuse a second
one in which a column that was null throughout has no type, or in which 1, 2 stands for 1.0, 2.0.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from initstudy.columns import (
    DIVERGED_LAYER,
    DIVERGED_STEP,
    OUTCOME,
    PROBES,
    RUN,
    SCHEMA,
    STEP,
    TEST,
    TRAIN,
    VALIDATION,
    Column,
    layer_of,
)
from initstudy.config.types import declared_types

Rows = Sequence[Mapping[str, Any]]

# The metadata of a file that says which version of the store's format it has.
FORMAT_KEY, FORMAT = "initstudy.format", "2"
# Columns that hold the choice of a group, by its name; no key of the schema has the same one.
GROUPS = ("model", "init", "data", "loss", "optimizer", "probes")
# Up to here a float holds every integer.
EXACT = 2.0**53
ALWAYS = frozenset(c.name for c in (RUN, STEP, DIVERGED_STEP, DIVERGED_LAYER))
# What metrics' columns begin with, whatever the task measures.
METRICS = (f"{TRAIN}/", f"{VALIDATION}/", f"{TEST}/", "best/")
MEASURED: dict[str, pl.DataType] = {
    "float": pl.Float64(),
    "int": pl.Int64(),
    "text": pl.String(),
    "counts": pl.List(pl.Int64()),
}
CONFIGURED: dict[type, pl.DataType] = {
    bool: pl.Boolean(),
    int: pl.Int64(),
    float: pl.Float64(),
    str: pl.String(),
}


def runs_table(rows: Rows) -> pl.DataFrame:
    """The summaries of runs, one row per run, with every column of a run's outcome."""
    names = [RUN.name, *_names(rows, but={RUN.name, *_named(OUTCOME)}), *_named(OUTCOME)]
    return _table(rows, names)


def history_table(rows: Rows) -> pl.DataFrame:
    """The histories of runs, one row per run and step, with every column of the layers' probes."""
    seen = _names(rows, but={RUN.name, STEP.name})
    per_layer: dict[str, list[str]] = {}
    for name in seen:
        if (layer := layer_of(name)) is not None:
            per_layer.setdefault(layer, []).append(name)
    presets = {column.preset for column in map(SCHEMA.find, seen) if column is not None}
    probes = [column for column in PROBES if column.preset in presets]
    of_runs = [name for name in seen if layer_of(name) is None]
    of_layers = [column.of(layer) for layer in per_layer for column in probes]
    return _table(rows, [RUN.name, STEP.name, *of_runs, *of_layers])


def as_parquet(table: pl.DataFrame) -> bytes:
    """A table as the content of a Parquet file."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata={FORMAT_KEY: FORMAT})
    return buffer.getvalue()


def without_empty(table: pl.DataFrame) -> pl.DataFrame:
    """A table without the columns that are null throughout, but with metrics and divergence."""
    return table.select(
        c for c in table.columns if c in ALWAYS or c.startswith(METRICS) or not _is_empty(table[c])
    )


def with_whole_numbers(runs: pl.DataFrame) -> pl.DataFrame:
    """Summaries in which arguments that are whole in every run, such as `model.width`, are int."""
    undeclared = (c for c in runs.columns if "/" not in c and _declared(c) is None)
    return runs.with_columns(pl.col([c for c in undeclared if _is_whole(runs[c])]).cast(pl.Int64))


def _table(rows: Rows, names: Iterable[str]) -> pl.DataFrame:
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = _declared(name) or _kind_of(values)
        if kind is not None:
            columns.append(_series(name, values, kind))
    return pl.DataFrame(columns)


def _series(name: str, values: list[Any], kind: pl.DataType) -> pl.Series:
    if kind == pl.String:
        values = [None if value is None else str(value) for value in values]
    if kind == pl.Float64:
        # The sign and the payload of a NaN depend on the processor and on whether a checkpoint lay
        # between; two trainings of a run write the same bytes.
        values = [math.nan if value != value else value for value in values]
    return pl.Series(name, values, kind, strict=False)


def _declared(name: str) -> pl.DataType | None:
    """The type that a column has by its name; None if the name does not tell."""
    column = SCHEMA.find(name)
    if column is not None:
        return MEASURED[column.dtype]
    if name in GROUPS:
        return pl.String()
    kind = declared_types().get(name)
    return None if kind is None else CONFIGURED[kind]


def _kind_of(values: Iterable[Any]) -> pl.DataType | None:
    """The type of an undeclared column; None if all its values are null.

    Numbers are floats, whether or not those of this pack are whole.
    """
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return None
    if kinds == {bool}:
        return pl.Boolean()
    if kinds <= {bool, int, float}:
        return pl.Float64()
    if kinds == {list}:
        return MEASURED["counts"]
    return pl.String()


def _names(rows: Rows, but: set[str]) -> list[str]:
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in but]


def _named(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def _is_empty(values: pl.Series) -> bool:
    return values.null_count() == len(values)


def _is_whole(values: pl.Series) -> bool:
    if values.dtype != pl.Float64 or _is_empty(values):
        return False
    numbers = values.drop_nulls()
    return bool(((numbers == numbers.round()) & (numbers.abs() <= EXACT)).all())
