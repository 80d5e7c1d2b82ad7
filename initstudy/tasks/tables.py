"""Tables and arrays in files, and scikit-learn's diabetes: numbers in, numbers or classes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from initstudy.tasks.arrays import Part, as_part
from initstudy.tasks.batches import generator
from initstudy.tasks.data import Data
from initstudy.tasks.images import bundled, stratified_split


def npz(
    file: str | Path,
    inputs: str = "x",
    targets: str | None = "y",
    test: float = 0.2,
    normalize: bool | None = None,
    seed: int = 0,
) -> Data:
    """Arrays in a NumPy archive, as `numpy.savez` writes it.

    The archive holds `x` and `y`, of which a part is for testing, or besides them `x_test` and
    `y_test` (and perhaps `x_validation` and `y_validation`). Nothing in it is executed: pickled
    objects are refused.

    Args:
        file: The archive.
        inputs: The name of the inputs in it.
        targets: The name of the targets; null if the outputs are compared with the inputs.
        test: The fraction of the examples for testing, if the archive has no test arrays.
        normalize: Whether inputs are normalized; see `Data`.
        seed: Which examples are for testing.

    Raises:
        ValueError: In one line, for a file that is missing, damaged or holds no such arrays.
    """
    path = Path(file)
    arrays = _archive(path)
    parts: dict[str, Any] = {}
    for part, suffix in (("train", ""), ("test", "_test"), ("validation", "_validation")):
        names = [f"{name}{suffix}" for name in (inputs, targets) if name is not None]
        if part != "train" and names[0] not in arrays:
            continue
        if absent := [name for name in names if name not in arrays]:
            raise ValueError(
                f"data.file={file}: holds no array {absent[0]}; it has {', '.join(arrays)}"
            )
        parts[part] = (arrays[names[0]], arrays[names[1]] if len(names) > 1 else None)
    if "test" not in parts:
        parts["train"], parts["test"] = _split(parts["train"], test, seed)
    return Data(**parts, normalize=normalize, name=path.name)


def csv(
    file: str | Path,
    target: str | Sequence[str],
    test: float = 0.2,
    test_file: str | Path | None = None,
    normalize: bool | None = True,
    separator: str = ",",
    seed: int = 0,
) -> Data:
    """A table with a header, one example per line.

    All columns but the targets are inputs, in their order. A target that is text, or true and
    false, is a class, numbered in the order of the sorted names; one of whole numbers is a class,
    too, if they are 0, 1, … without a gap; other numbers are values.

    Args:
        file: The table.
        target: The name of the target's column, or the names of several columns of numbers.
        test: The fraction of the examples for testing, if there is no other file for that.
        test_file: A table with the same columns, for testing.
        normalize: Whether inputs are normalized; see `Data`.
        separator: What stands between two columns.
        seed: Which examples are for testing.

    Raises:
        ValueError: In one line, for a file that is missing or damaged, a column that is absent, is
            no number or has missing values.
    """
    paths = [Path(f) for f in (file, test_file) if f is not None]
    tables = [_table(path, separator) for path in paths]
    wanted = [target] if isinstance(target, str) else list(target)
    for path, table in zip(paths, tables, strict=True):
        if absent := [name for name in (*tables[0], *wanted) if name not in table]:
            raise ValueError(
                f"data.file={path}: has no column {absent[0]}; it has {', '.join(table)}"
            )
    names = [name for name in tables[0] if name not in wanted]
    x = [
        np.stack([_numbers(t, name, p) for name in names], 1)
        for t, p in zip(tables, paths, strict=True)
    ]
    y, classes = _targets(tables, wanted, paths)
    if len(tables) == 2:
        parts: Sequence[Any] = [(x[0], y[0]), (x[1], y[1])]
    else:
        parts = _split((x[0], y[0]), test, seed)
    return Data(*parts, normalize=normalize, classes=classes, name=paths[0].name)


def regression(test: float = 0.2, seed: int = 0) -> Data:
    """The diabetes data that come with scikit-learn (Efron et al. 2004).

    442 patients: ten measurements each, and the progress of the disease a year later. Measurements
    and progress have mean 0 and variance 1 over the training examples. Linear regression explains
    about half of the variance.

    Args:
        test: The fraction of the examples for testing.
        seed: Which examples are for testing.

    Example:
        >>> data = regression()
        >>> data.shape, data.outputs, len(data.train), len(data.test)
        ((10,), 1, 354, 88)
    """
    x = np.loadtxt(bundled("data", "diabetes_data_raw.csv.gz"))
    y = np.loadtxt(bundled("data", "diabetes_target.csv.gz"))
    train, tested = _split((x, y), test, seed)
    std, mean = torch.std_mean(train.y, correction=0)
    parts = [Part(part.inputs, (part.y - mean) / std) for part in (train, tested)]
    return Data(*parts, normalize=True, name="diabetes")


def _archive(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("is one array; write the archive by numpy.savez")
        with archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ValueError(f"data.file={path}: there is no such file") from error
    except (OSError, ValueError, EOFError, BadZipFile, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason or "Object arrays" in reason:
            reason = "holds pickled objects, which are code; save plain arrays of numbers"
        raise ValueError(f"data.file={path}: cannot be read: {reason}") from error


def _split(examples: tuple[Any, Any], test: float, seed: int) -> tuple[Part, Part]:
    """Examples divided into those for training and those for testing, classes in proportion."""
    part = as_part(examples, "train")
    if isinstance(test, bool) or not 0 < test < 1:
        raise ValueError(f"data.test={test}: must be a number between 0 and 1")
    random = generator(seed, 0, "test")
    y = part.targets
    if isinstance(y, Tensor) and not y.is_floating_point() and y.dim() == 1:
        train, held = stratified_split(y, test, random)
    else:
        order = torch.randperm(len(part), generator=random)
        train, held = order[round(test * len(part)) :], order[: round(test * len(part))]
    if not len(train) or not len(held):
        raise ValueError(f"data.test={test}: leaves one part of {len(part)} examples empty")
    return part.at(train), part.at(held)


def _table(path: Path, separator: str) -> dict[str, Any]:
    """The columns of a table, by name."""
    import polars as pl

    try:
        frame = pl.read_csv(path, separator=separator, infer_schema_length=None)
    except FileNotFoundError as error:
        raise ValueError(f"data.file={path}: there is no such file") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"data.file={path}: cannot be read as a table: {reason}") from error
    if frame.is_empty():
        raise ValueError(f"data.file={path}: has no lines below its header")
    for column in frame:
        if column.null_count():
            raise ValueError(
                f"data.file={path}: the column {column.name} has {column.null_count()} missing "
                "values; fill them or leave those lines out"
            )
    return {column.name: column for column in frame}


def _numbers(table: dict[str, Any], name: str, path: Path) -> np.ndarray:
    column = table[name]
    if not (column.dtype.is_numeric() or str(column.dtype) == "Boolean"):
        raise ValueError(
            f"data.file={path}: the column {name} holds text such as {column[0]!r}; inputs must be "
            "numbers: encode it, or leave it out"
        )
    return column.to_numpy().astype(np.float32)


def _targets(
    tables: Sequence[dict[str, Any]], wanted: Sequence[str], paths: Sequence[Path]
) -> tuple[list[np.ndarray], int | None]:
    """The targets of each table, and the number of classes if they are classes."""
    if len(wanted) > 1:
        pairs = zip(tables, paths, strict=True)
        return [np.stack([_numbers(t, n, p) for n in wanted], 1) for t, p in pairs], None
    columns = [table[wanted[0]] for table in tables]
    kinds = {str(column.dtype) for column in columns}
    values = sorted({value for column in columns for value in column.unique().to_list()}, key=str)
    if kinds <= {"String", "Boolean"}:
        number = {value: index for index, value in enumerate(values)}
        return [np.array([number[v] for v in c.to_list()]) for c in columns], len(number)
    whole = all(column.dtype.is_integer() for column in columns)
    if whole and sorted(values) == list(range(len(values))) and len(values) > 1:
        return [column.to_numpy().astype(np.int64) for column in columns], len(values)
    return [_numbers(t, wanted[0], p) for t, p in zip(tables, paths, strict=True)], None
