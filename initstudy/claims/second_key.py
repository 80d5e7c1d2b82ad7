"""What claims along the second studied key have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl

from initstudy.claims.finding import Finding
from initstudy.store.cells import cells, edge, points
from initstudy.store.frames import Study

Seeds = Mapping[int, float]
# Of so many seeds every third chooses, which leaves as many to decide as Student's t takes.
FEWEST_WITH_CHOICE = 5


def values_of(study: Study, facet: str, metric: str) -> dict[Any, dict[float, dict[int, float]]]:
    """`points` of a study of two keys, and nothing of any other."""
    return {} if study.across is None else points(study, facet, metric)


def without_second_key(unit: str) -> Finding:
    """The finding of a claim about two keys on a study of one."""
    return Finding.undecided(unit, "needs a second studied key, which `across` names")


def common_seeds(values: Mapping[Any, Seeds]) -> list[int]:
    """The seeds that all of these have."""
    return sorted(set.intersection(*(set(v) for v in values.values()))) if values else []


def mean(values: Seeds) -> float:
    """The mean over the seeds."""
    return fmean(values.values())


def fewest_seeds(study: Study) -> int:
    """How many seeds a claim takes at least, some of which choose if the study tunes a key."""
    return FEWEST_WITH_CHOICE if study.tune else 3


def seeds_of(study: Study, facet: str) -> int:
    """How many seeds a facet has."""
    return study.runs_of(facet)["seed"].n_unique()


def seeds_per_decider(study: Study) -> float:
    """How many seeds there are for each that decides."""
    return 1.5 if study.tune else 1.0


def as_array(arms: Sequence[Seeds], seeds: Sequence[int]) -> np.ndarray:
    """Values by arm and seed, `[arms, seeds]`; NaN where an arm lacks a seed."""
    return np.array([[float(arm.get(seed, np.nan)) for seed in seeds] for arm in arms])


def tuned_at_edge(
    study: Study, facet: str, metric: str, points_used: Mapping[Any, Sequence[float] | None]
) -> str | None:
    """Where to extend the grid of a tuned key whose best value lies at its edge, in words.

    Args:
        study: A study of two keys.
        facet: One of its facets.
        metric: What is compared.
        points_used: For each value of the studied key that matters the values of the second one
            that do; None for all of them.

    Returns:
        The words, or None if nothing is tuned or no best value lies at an edge.
    """
    if study.tune is None:
        return None
    grid = study.runs_of(facet)["tune"].drop_nulls().unique().sort().to_list()
    chosen = cells(study, facet, metric).unique(["by", "across"]).sort("by", "across")
    for by, across, tuned in chosen.select("by", "across", "tuned").iter_rows():
        wanted = points_used.get(by, ())
        if wanted is not None and across not in wanted:
            continue
        if beyond := edge(grid, tuned):
            at = f"{by} at {study.across} {across:g}" if isinstance(across, float | int) else by
            return extend(study.tune, tuned, at, beyond)
    return None


def extend(key: str, best: Any, of: Any, beyond: str) -> str:
    """The sentence that asks for a wider grid."""
    shown = f"{best:g}" if isinstance(best, float | int) else best
    return (
        f"the best {key} of {of} is {shown}, at the edge of its grid, so that nothing is decided: "
        f"extend the grid {beyond}"
    )


def by_seed(study: Study, facet: str, choice: Any, metric: str) -> dict[int, float]:
    """The values of one choice by seed, for a study of one key."""
    runs = study.runs_of(facet)
    value = study.value(metric, facet).alias("value")
    chosen = runs.with_columns(value).filter(pl.col("by").cast(pl.String) == str(choice))
    return dict(chosen.select("seed", "value").iter_rows())
