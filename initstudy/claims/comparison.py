"""Two arms of a study compared, by what their metric asks for."""

from __future__ import annotations

import math

import numpy as np

from initstudy.claims.second_key import Seeds
from initstudy.claims.statistics import OPEN, Interval, mean_interval, times_interval
from initstudy.columns import LEARNING_TIME
from initstudy.store.frames import Study

FRACTIONS = (-1.0, 1.0)


def unit_of(study: Study, metric: str, ratio: bool) -> str:
    """What `advantage` measures, in words."""
    if metric == LEARNING_TIME.name:
        return f"ln of the factor by which {metric} is shorter"
    return f"ln of the ratio of {metric}" if ratio else f"difference of {metric}"


def advantage(
    study: Study,
    facet: str,
    metric: str,
    arms: tuple[Seeds, Seeds],
    *,
    lower: bool,
    ratio: bool = False,
) -> Interval:
    """By how much the first arm is better than the second.

    Learning times are compared by the log-rank test, since some runs may never have learned. The
    values of any other metric are paired by seed.

    Args:
        study: The study.
        facet: The facet that both arms belong to.
        metric: A column of the runs.
        arms: The values of the two arms by seed.
        lower: Whether small values of the metric are good.
        ratio: Whether to compare logarithms.
    """
    first, second = arms
    seeds = sorted(first.keys() & second.keys())
    if metric == LEARNING_TIME.name:
        horizon = study.horizon(metric, facet)
        return times_interval(
            [first[s] for s in seeds], [second[s] for s in seeds], horizon, horizon
        )
    measure = study.schema.metric(metric)
    fraction = measure is not None and measure.fraction and not ratio
    gains = [_gain(first[s], second[s], lower, ratio) for s in seeds]
    return mean_interval(gains, FRACTIONS if fraction else OPEN)


def _gain(first: float, second: float, lower: bool, ratio: bool) -> float:
    if first == second:
        # Two runs of the worst rank are no more apart than any other two of equal rank.
        return 0.0
    with np.errstate(divide="ignore"):
        difference = float(np.log(first) - np.log(second)) if ratio else first - second
    return -difference if lower else difference


def mean_of(values: Seeds) -> float:
    """The mean over seeds, which is infinite if a run has the worst rank."""
    return math.fsum(values.values()) / len(values) if values else math.nan
