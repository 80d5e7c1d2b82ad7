"""What was measured in the layers, step by step, for charts that show one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from initstudy.columns import ACTIVATION_SPREAD, ACTIVATION_THEORY, GRADIENT_THEORY, Column
from initstudy.report.charts.style import NothingToShow
from initstudy.store.frames import Study

# How many steps and values of the studied key one chart holds; the data of each are in the page.
MOST_STEPS = 24
MOST_VALUES = 48
EXPECTED = (ACTIVATION_THEORY, ACTIVATION_SPREAD, GRADIENT_THEORY)


def measured(study: Study, facet: str, column: Column) -> tuple[pl.DataFrame, dict[str, str]]:
    """A facet's rows that hold a statistic of its layers.

    Args:
        study: The study.
        facet: One of its facets.
        column: The statistic, which is one per layer.

    Returns:
        The rows, with what theory expects of the layers, and the name of each layer's column.

    Raises:
        NothingToShow: It was not measured.
    """
    layers = study.layers(facet)
    columns = {layer: column.of(layer) for layer in layers}
    columns = {layer: name for layer, name in columns.items() if name in study.history.columns}
    if not columns:
        raise NothingToShow("Not measured: the study ran with probes=off.")
    theory = [c.of(layer) for layer in layers for c in EXPECTED]
    known = [name for name in theory if name in study.history.columns]
    names = dict.fromkeys(("run", "by", "step", *columns.values(), *known))
    first = next(iter(columns.values()))
    rows = study.history_of(facet, *names).filter(pl.col(first).is_not_null())
    if rows.is_empty():
        raise NothingToShow("Not measured: no run was probed.")
    return rows, columns


def chosen_steps(rows: pl.DataFrame) -> list[int]:
    """Some of the steps of these rows: all if they are few, else more at the beginning."""
    steps: list[int] = rows["step"].unique().sort().to_list()
    if len(steps) <= MOST_STEPS:
        return steps
    indices = np.geomspace(1, len(steps), MOST_STEPS).round().astype(int) - 1
    return [steps[index] for index in np.unique(indices)]


def at_step(rows: pl.DataFrame, step: int) -> pl.DataFrame:
    """Each run's last measurement up to a step: a run that diverged stays at its own last one."""
    return rows.filter(pl.col("step") <= step).group_by("run", maintain_order=True).last()


def few(values: Sequence[Any], most: int = MOST_VALUES) -> list[Any]:
    """At most so many of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    indices = np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))
    return [values[index] for index in indices]


def geometric_means(frame: pl.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """One row per value of the studied key, with the geometric mean of each column."""
    logs = [pl.col(c).log().mean().exp().alias(c) for c in columns]
    return frame.group_by("by", maintain_order=True).agg(logs).to_dicts()


def over_steps(
    study: Study, facet: str, rows: pl.DataFrame, columns: Mapping[str, str]
) -> tuple[list[int], list[dict[str, Any]]]:
    """What a chart that shows one step at a time holds.

    Args:
        study: The study.
        facet: One of its facets.
        rows: What `measured` gave.
        columns: The name of each layer's column.

    Returns:
        The steps, and one row per step, value and layer: `step`, `by`, `layer`, `value`.
    """
    steps = chosen_steps(rows)
    values = few(study.values(facet))
    kept = rows.filter(pl.col("by").is_in(values)) if values else rows
    long = [
        {"step": step, "by": row["by"], "layer": layer, "value": row[name]}
        for step in steps
        for row in geometric_means(at_step(kept, step), list(columns.values()))
        for layer, name in columns.items()
    ]
    return steps, long
