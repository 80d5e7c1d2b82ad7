"""Studies of two keys as cells: one value for each point of both keys and each seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from initstudy.store.frames import Study, finite_or

POINT = ("by", "across")


def cells(study: Study, facet: str, metric: str) -> pl.DataFrame:
    """The values of a facet's runs, one per point of both keys and seed.

    Where the study tunes a key, each point takes the value of that key whose mean over the seeds is
    best on the validation data. Without such data each seed takes the value that is best by the
    mean of the *other* seeds, so that no run is chosen for its own luck; a single seed chooses for
    itself.

    What is not finite counts as `Study.worst`.

    Args:
        study: A study of two keys.
        facet: One of its facets.
        metric: A column of its runs.

    Returns:
        Columns `by`, `across`, `seed` and `value`, and `tuned`, the value taken of a tuned key.
    """
    finite = finite_or(metric, study.worst(metric, facet)).alias("value")
    tune = ["tune"] if study.tune else []
    rows = study.runs_of(facet).select(*POINT, "seed", *tune, finite, *_validated(study, metric))
    return _tuned(rows, study.is_lower_better(metric)) if study.tune else rows


def points(study: Study, facet: str, metric: str) -> dict[Any, dict[float, dict[int, float]]]:
    """The values of `cells` by the studied key, the second key and the seed."""
    values: dict[Any, dict[float, dict[int, float]]] = {}
    frame = cells(study, facet, metric).sort("across")
    for by, across, seed, value in frame.select(*POINT, "seed", "value").iter_rows():
        values.setdefault(by, {}).setdefault(across, {})[seed] = value
    return values


def _validated(study: Study, metric: str) -> list[pl.Expr]:
    """The same metric on the validation data, by which values are selected, if there is one."""
    column = replace(study.schema, objective=metric).selection
    if column == metric or column not in study.runs.columns:
        return []
    return [finite_or(column, study.worst(column)).alias("validated")]


def _tuned(rows: pl.DataFrame, lower_is_better: bool) -> pl.DataFrame:
    total, count = pl.col("value").sum(), pl.len()
    point = [*POINT, "tune"]
    if "validated" in rows.columns:
        merit = pl.col("validated").mean().over(point)
    else:
        others = (total.over(point) - pl.col("value")) / (count.over(point) - 1)
        merit = pl.when(count.over(point) > 1).then(others).otherwise(pl.col("value"))
    ranked = rows.with_columns(merit.alias("merit")).sort(
        "merit", "tune", descending=[not lower_is_better, False], maintain_order=True
    )
    best = ranked.unique([*POINT, "seed"], keep="first", maintain_order=True)
    return best.select(*POINT, "seed", pl.col("tune").alias("tuned"), "value").sort(*POINT, "seed")
