"""Studies of two keys as cells: one value for each point of both keys and each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from initstudy.store.frames import Study

POINT = ("by", "across")
# Of the seeds in their order, every third chooses. A seed keeps its part when more are added.
EVERY = 3


def chooses(seeds: Sequence[object]) -> list[bool]:
    """Which of some seeds choose, where a value of a key is to be chosen; the others decide.

    No number is compared with a best that it helped to choose. Leaving each seed out in turn would
    not do: the choices then depend on one another, and a claim of no effect would pass in 5% of
    studies of three seeds and 16% of studies of twenty where 2.5% are promised.

    Example:
        >>> chooses([0, 1, 2, 3, 4])
        [True, False, False, True, False]
    """
    return [number % EVERY == 0 for number in range(len(seeds))]


def cells(study: Study, facet: str, metric: str) -> pl.DataFrame:
    """The values of a facet's runs, one per point of both keys and seed.

    Where the study tunes a key, some seeds choose and the others remain: each point takes the value
    of that key whose mean over the seeds that choose is best, on the validation data if there are
    such. A single seed chooses for itself.

    What diverged counts as `Study.stand_in` says.

    Args:
        study: A study of two keys.
        facet: One of its facets.
        metric: A column of its runs.

    Returns:
        Columns `by`, `across`, `seed` and `value`, and `tuned`, the value taken of a tuned key.
    """
    tune = ["tune"] if study.tune else []
    value = study.value(metric, facet).alias("value")
    merit = study.value(selection(study, metric), facet).alias("merit")
    rows = study.runs_of(facet).select(*POINT, "seed", *tune, value, merit)
    return _tuned(rows, study.is_lower_better(metric)) if study.tune else rows.drop("merit")


def points(study: Study, facet: str, metric: str) -> dict[Any, dict[float, dict[int, float]]]:
    """The values of `cells` by the studied key, the second key and the seed."""
    values: dict[Any, dict[float, dict[int, float]]] = {}
    frame = cells(study, facet, metric).sort("across")
    for by, across, seed, value in frame.select(*POINT, "seed", "value").iter_rows():
        values.setdefault(by, {}).setdefault(across, {})[seed] = value
    return values


def selection(study: Study, metric: str) -> str:
    """The column by which a best value is chosen: the metric on validation data if there are such.

    Args:
        study: The study.
        metric: A column of its runs.
    """
    column = replace(study.schema, objective=metric).selection
    return column if column in study.runs.columns else metric


def edge(values: Sequence[Any], chosen: Any) -> str | None:
    """Where to extend a grid whose best value lies at its edge, in words; None if it does not.

    An optimum at the edge of a grid is not known to be one.

    Args:
        values: The values of the grid, of which numbers have an order.
        chosen: The best of them.

    Example:
        >>> edge([0.001, 0.01, 0.1], 0.001)
        'below 0.001'
        >>> edge([0.001, 0.01, 0.1], 0.01)
    """
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or len(numbers) < 2:
        return None
    if chosen == min(numbers):
        return f"below {chosen:g}"
    return f"above {chosen:g}" if chosen == max(numbers) else None


def _tuned(rows: pl.DataFrame, lower_is_better: bool) -> pl.DataFrame:
    seeds = rows["seed"].unique().sort().to_list()
    choosing = [seed for seed, one in zip(seeds, chooses(seeds), strict=True) if one]
    remaining = [seed for seed in seeds if seed not in choosing] or choosing
    merit = rows.filter(pl.col("seed").is_in(choosing)).group_by(*POINT, "tune")
    ranked = merit.agg(pl.col("merit").mean()).sort(
        "merit", "tune", descending=[not lower_is_better, False], maintain_order=True
    )
    best = ranked.unique(POINT, keep="first", maintain_order=True).select(*POINT, "tune")
    kept = rows.filter(pl.col("seed").is_in(remaining)).join(best, on=[*POINT, "tune"])
    named = kept.select(*POINT, "seed", pl.col("tune").alias("tuned"), "value")
    return named.sort(*POINT, "seed")
