"""What was measured in the layers, step by step: for charts that show one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from initstudy.report.charts.style import NothingToShow
from initstudy.store.frames import Study

# Steps and values of the studied variable that one chart holds; the data of each go into the page.
MOST_STEPS = 24
MOST_VALUES = 48


def measured(study: Study, facet: str, pattern: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """A facet's rows that hold a statistic of its layers, and the column of each layer.

    Args:
        study: The sweep.
        facet: Which model.
        pattern: The statistic's column with `{}` for the layer, such as "activation/{}/rms".

    Raises:
        NothingToShow: It was not measured.
    """
    columns = {layer: pattern.format(layer) for layer in study.layers(facet)}
    columns = {layer: name for layer, name in columns.items() if name in study.history.columns}
    if not columns:
        raise NothingToShow("Not measured: the sweep ran with probes=off.")
    first = next(iter(columns.values()))
    here = (pl.col("facet") == facet) & pl.col(first).is_not_null()
    theory = [name for name in study.history.columns if name.endswith("/theory")]
    kept = dict.fromkeys(("run", "by", "facet", "step", *columns.values(), *theory))
    rows = study.history.select(*kept).filter(here)
    if rows.is_empty():
        raise NothingToShow("Not measured: no run was probed.")
    return rows, columns


def chosen_steps(rows: pl.DataFrame) -> list[int]:
    """Some of the steps of these rows: all where they are few, else denser at the beginning."""
    steps: list[int] = rows["step"].unique().sort().to_list()
    if len(steps) <= MOST_STEPS:
        return steps
    places = np.geomspace(1, len(steps), MOST_STEPS).round().astype(int) - 1
    return [steps[place] for place in np.unique(places)]


def at_step(rows: pl.DataFrame, step: int) -> pl.DataFrame:
    """Each run's last measurement up to a step: a run that diverged stays at its own last one."""
    return rows.filter(pl.col("step") <= step).group_by("run", maintain_order=True).last()


def few(values: Sequence[Any], most: int = MOST_VALUES) -> list[Any]:
    """At most so many of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    places = np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))
    return [values[place] for place in places]


def geometric_means(frame: pl.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """A row a value of the studied variable, with the geometric mean of each column."""
    logs = [pl.col(c).log().mean().exp().alias(c) for c in columns]
    return frame.group_by("by", maintain_order=True).agg(logs).to_dicts()


def over_steps(
    study: Study, facet: str, rows: pl.DataFrame, columns: Mapping[str, str]
) -> tuple[list[int], list[dict[str, Any]]]:
    """The steps of a chart, and a row a step, value and layer: `step`, `by`, `layer`, `value`."""
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
