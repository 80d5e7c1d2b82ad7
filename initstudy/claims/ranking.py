"""Many choices ranked: simultaneous intervals, sets of ranks, and choices that are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from initstudy.claims.second_key import as_array
from initstudy.claims.statistics import (
    FEWEST,
    LEVEL,
    Ends,
    fraction_interval,
    mean_interval,
)
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Ranking:
    """The choices of a facet, from the best to the worst, and what is certain of that order.

    Attributes:
        choices: The choices, the one with the best mean first.
        means: What each reached.
        ranks: Between which ranks each lies, all of them at once with 95% confidence.
        intervals: The interval of each mean; all of them hold at once in 95% of studies.
        twins: Choices whose runs are the same to the last digit in every seed.
    """

    choices: list[Any]
    means: dict[Any, float]
    ranks: dict[Any, tuple[int, int]]
    intervals: dict[Any, Ends]
    twins: list[list[Any]]

    def shown(self, choice: Any) -> str:
        """The ranks of a choice as people read them, such as "1" or "2–5"."""
        first, last = self.ranks[choice]
        return f"{first}" if first == last else f"{first}–{last}"

    def twins_of(self, choice: Any) -> list[Any]:
        """The other choices that are the same as this one."""
        return [c for group in self.twins if choice in group for c in group if c != choice]


def rank(study: Study, facet: str, level: float = LEVEL) -> Ranking:
    """Ranks the choices of a study of one key by its objective.

    Every pair of choices is compared by Student's t of the seeds that both have, with Holm's
    correction over all pairs. A choice has at best the rank after all that are better than it, and
    at worst the rank before all that it is better than (Mogstad, Romano, Shaikh & Wilhelm 2024,
    Inference for Ranks).

    Args:
        study: A study whose values are choices.
        facet: One of its facets.
        level: The two-sided error rate of all ranks together.

    Example:
        >>> from initstudy.claims import synthetic_study
        >>> truth = {"he": 0.9, "also_he": 0.9, "xavier": 0.6}
        >>> def results(init, seed):
        ...     return {"test/accuracy": truth[init] + 0.01 * (seed * len(init) % 5)}
        >>> found = rank(synthetic_study({"init": list(truth)}, results), "MLP")
        >>> [found.shown(choice) for choice in found.choices]
        ['1–2', '1–2', '3']
    """
    choices = study.values(facet) or [None]
    value = study.value(study.objective, facet).alias("value")
    rows = study.runs_of(facet).select("by", "seed", value)
    values = {
        choice: dict(
            rows.filter(pl.col("by").eq_missing(pl.lit(choice))).select("seed", "value").iter_rows()
        )
        for choice in choices
    }
    seeds = sorted({seed for row in values.values() for seed in row})
    table = as_array(list(values.values()), seeds)
    sign = -1 if study.is_lower_better(study.objective) else 1
    better = holm_pairs(sign * table, level)
    measure = study.schema.metric(study.objective)
    interval = fraction_interval if measure is not None and measure.fraction else mean_interval
    count = len(choices)
    found = {choice: interval(list(values[choice].values())) for choice in choices}
    return Ranking(
        choices,
        {choice: found[choice].estimate for choice in choices},
        {
            choice: (1 + int(better[:, i].sum()), count - int(better[i].sum()))
            for i, choice in enumerate(choices)
        },
        {choice: found[choice].at(level / count) for choice in choices},
        _twins(choices, table),
    )


def holm_pairs(values: np.ndarray, level: float) -> np.ndarray:
    """Which arm is better than which other, all pairs together.

    Args:
        values: `[arms, seeds]`, of which large values are good; NaN is left out.
        level: The two-sided error rate of all pairs together.

    Returns:
        `[arms, arms]`: whether the arm of the row is better than that of the column.
    """
    from scipy.special import stdtr

    count = len(values)
    first, second = np.triu_indices(count, 1)
    differences = values[first] - values[second]
    present = ~np.isnan(differences)
    n = present.sum(1)
    mean = np.where(present, differences, 0.0).sum(1) / np.maximum(n, 1)
    centred = np.where(present, differences - mean[:, None], 0.0)
    error = np.sqrt(np.square(centred).sum(1) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(np.maximum(n - 1, 1), -np.abs(mean / error))
    equal = np.abs(centred).max(1, initial=0.0) <= 1e-12 * np.maximum(1.0, np.abs(mean))
    # Equal differences are signs, and few seeds have no small p: see `student`.
    p = np.where(equal, np.where(mean == 0, 1.0, 2.0 ** (1 - n)), p)
    p = np.where(n < FEWEST, 1.0, np.maximum(p, 2 * 4.0**-n))
    better = np.zeros((count, count), dtype=bool)
    for place, pair in enumerate(np.argsort(p, kind="stable")):
        if p[pair] > level / (len(p) - place):
            break
        winner, loser = first[pair], second[pair]
        if mean[pair] < 0:
            winner, loser = loser, winner
        better[winner, loser] = True
    return better


def _twins(choices: Sequence[Any], table: np.ndarray) -> list[list[Any]]:
    groups: dict[bytes, list[Any]] = {}
    for choice, row in zip(choices, table, strict=True):
        groups.setdefault(row.tobytes(), []).append(choice)
    return [group for group in groups.values() if len(group) > 1]
