"""Studies of two keys as cells: a value for each point of both and each seed."""

from __future__ import annotations

from typing import Any

import polars as pl

from initstudy.store.frames import LEARNING_TIME, Study

POINT = ("by", "across")


def cells(study: Study, facet: str, metric: str) -> pl.DataFrame:
    """`by`, `across`, `seed` and `value` of a facet's runs.

    Where the study tunes a key, each seed takes the value of that key that is best at this point by
    the mean of the *other* seeds, so that no run is chosen for its own luck; a single seed chooses
    for itself. `tuned` then holds the value taken.

    A learning time that was never reached counts with the number of steps trained, a lower bound;
    an accuracy that is not finite with zero, a loss with the largest finite one of the facet.

    Args:
        study: Of two keys.
        facet: Which of its models.
        metric: A column of the runs.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    value = pl.col(metric).cast(pl.Float64)
    finite = pl.when(value.is_finite()).then(value).otherwise(_stand_in(study, facet, metric))
    tune = ["tune"] if study.tune else []
    rows = runs.select(*POINT, "seed", *tune, finite.alias("value"))
    return _tuned(rows, is_lower_better(metric)) if study.tune else rows


def points(study: Study, facet: str, metric: str) -> dict[Any, dict[float, dict[int, float]]]:
    """`cells` as value by studied value, second value and seed."""
    found: dict[Any, dict[float, dict[int, float]]] = {}
    frame = cells(study, facet, metric).sort("across")
    for by, across, seed, value in frame.select(*POINT, "seed", "value").iter_rows():
        found.setdefault(by, {}).setdefault(across, {})[seed] = value
    return found


def is_lower_better(metric: str) -> bool:
    """Whether small values of a metric are good: losses and learning times."""
    return metric == LEARNING_TIME or metric.endswith("/loss")


def _stand_in(study: Study, facet: str, metric: str) -> float:
    if metric == LEARNING_TIME:
        steps: Any = study.history.filter(pl.col("facet") == facet)["step"].max()
        return float(steps)
    values = study.runs.filter(pl.col("facet") == facet)[metric].cast(pl.Float64)
    largest: Any = values.filter(values.is_finite()).max()
    return float(largest or 0.0) if is_lower_better(metric) else 0.0


def _tuned(rows: pl.DataFrame, lower_is_better: bool) -> pl.DataFrame:
    total, count = pl.col("value").sum(), pl.len()
    point = [*POINT, "tune"]
    others = (total.over(point) - pl.col("value")) / (count.over(point) - 1)
    others = pl.when(count.over(point) > 1).then(others).otherwise(pl.col("value"))
    ranked = rows.with_columns(others.alias("others")).sort(
        "others", "tune", descending=[not lower_is_better, False], maintain_order=True
    )
    best = ranked.unique([*POINT, "seed"], keep="first", maintain_order=True)
    return best.select(*POINT, "seed", pl.col("tune").alias("tuned"), "value").sort(*POINT, "seed")
