"""How fast a metric changes along the second key, for one choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from initstudy.claims.finding import Finding, Region, shortfall
from initstudy.claims.second_key import (
    as_array,
    common_seeds,
    fewest_seeds,
    mean,
    seeds_of,
    seeds_per_decider,
    tuned_at_edge,
    values_of,
    without_second_key,
)
from initstudy.claims.statistics import (
    FEWEST,
    Ends,
    Interval,
    mean_interval,
    median_ends,
    slope,
    student,
)
from initstudy.columns import LEARNING_TIME
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Trend:
    """How fast a metric changes along the second key, for one choice.

    For each seed: the slope of ln(metric) against ln(second key), which is the exponent of a power
    law. A run that never learned would have taken longer than it had, by nobody knows how much: at
    the far end that leaves the seed's slope without an upper bound, at the near end without a lower
    one. The claim is decided by the bounds, so such runs never make an exponent small; where some
    seeds have none, it is one about the median seed.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.
        low, high: The limits between which the exponent lies.
        metric: A column of the runs.

    Example:
        >>> from initstudy.claims import Trend, synthetic_study
        >>> def results(init, depth, seed):
        ...     return {"learning_time": 100 if init == "orthogonal" else 100 * depth}
        >>> grid = {"init": ["orthogonal", "gaussian"], "model.depth": [2, 8, 32]}
        >>> study = synthetic_study(grid, results)
        >>> claim = Trend("Time grows with depth.", "gaussian", low=0.9, high=1.1)
        >>> finding = claim.check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3)
        ('PASS', 1.0)
    """

    statement: str
    choice: Any
    low: float = -math.inf
    high: float = math.inf
    metric: str = LEARNING_TIME.name

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = f"exponent of {self.metric} in {study.across}"
        if study.across is None:
            return without_second_key(unit)
        values = values_of(study, facet, self.metric).get(self.choice, {})
        seeds = common_seeds(values)
        need = fewest_seeds(study)
        have = seeds_of(study, facet) if len(seeds) >= FEWEST else min(len(seeds), need - 1)
        lacking = shortfall(
            (2, len(values), f"values of {study.across}"), (need, have, f"seeds of {self.choice}")
        )
        if lacking:
            return Finding.undecided(unit, lacking, need)
        x = np.log([float(value) for value in values])
        table = as_array(list(values.values()), seeds).T
        horizon = study.horizon(self.metric, facet)
        interval, lost = exponent(x, table, horizon)
        first, last = (values[a] for a in (min(values), max(values)))
        censored = f"; {lost} runs never reached it" if lost else ""
        detail = (
            f"{self.metric} of {self.choice} is {mean(first):.4g} at {study.across} "
            f"{min(values):g} and {mean(last):.4g} at {max(values):g}{censored}"
        )
        if wider := tuned_at_edge(study, facet, self.metric, _all(self.choice)):
            return Finding.at_edge(interval, unit, detail, wider)
        return Finding.judged(
            interval,
            Region(self.low, self.high),
            unit,
            detail,
            arms=frozenset((self.choice, a) for a in values),
            seeds_per_decider=seeds_per_decider(study),
        )


def exponent(x: np.ndarray, values: np.ndarray, horizon: float) -> tuple[Interval, int]:
    """The mean exponent over seeds, and how many runs never learned.

    Args:
        x: The logarithms of the second key.
        values: `[seeds, points]`; those that are not below the horizon were last seen there.
        horizon: How long runs trained; infinite for a metric that is no time.
    """
    below, above = slopes(x, values, horizon)
    lost = int((values >= horizon).sum())
    plain = slope(x, np.log(np.maximum(values, 1e-300)))
    if not lost:
        return mean_interval(plain.tolist()), 0

    def at(level: float) -> Ends:
        low, high = _ends(below, above, level)
        return float(low), float(high)

    whole = mean_interval(plain.tolist())
    method = f"{whole.method}, medians of bounds where runs never learned"
    return Interval.of(whole.estimate, whole.n, method, at, whole.plan), lost


def slopes(x: np.ndarray, values: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest slope that the times `[..., seeds, points]` allow, per seed."""
    logs = np.log(np.maximum(values, 1e-300))
    plain = slope(x, logs)
    never = values >= horizon
    rises, falls = x > x.mean(), x < x.mean()
    below = np.where((never & falls).any(-1), -np.inf, plain)
    above = np.where((never & rises).any(-1), np.inf, plain)
    return below, above


def _ends(below: np.ndarray, above: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The lower end of the smallest slopes, and the upper end of the largest ones.

    It is that of the mean where all of them are known, and of the median where some have no bound.
    """
    ends = []
    for bounds, side in ((below, 0), (above, 1)):
        known = np.isfinite(bounds)
        of_mean = student(np.where(known, bounds, 0.0), level)[side]
        ends.append(np.where(known.all(-1), of_mean, median_ends(bounds, level)[side]))
    return ends[0], ends[1]


def _all(choice: Any) -> Mapping[Any, None]:
    return {choice: None}
