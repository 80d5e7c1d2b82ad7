"""The range of values that train gets narrower along the second key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.second_key import common_seeds, values_of, without_second_key
from initstudy.claims.statistics import FEWEST, mean_interval, slope
from initstudy.claims.worse_than_best import BELOW_ZERO
from initstudy.store.frames import Study

Values = Mapping[float, Mapping[float, Mapping[int, float]]]


@dataclass(frozen=True)
class Narrows:
    """The range of values that train gets narrower along the second key.

    For each seed and value of the second key: how many decades lie between the smallest and the
    largest value of the studied key whose runs reach the limit (none counts as zero decades). Then
    the slope of that range against ln(second key).

    Args:
        statement: What is claimed, in words.
        metric: A column of the runs, large values of which are good; None for the objective.
        limit: The value from which a run counts as trained.

    Example:
        >>> from initstudy.claims import Narrows, synthetic_study
        >>> def results(std, depth, seed):
        ...     return {"test/accuracy": 0.95 if 0.001 * depth <= std <= 1 / depth else 0.1}
        >>> grid = {"init.std": [0.001, 0.01, 0.1, 1.0], "model.depth": [1, 10]}
        >>> Narrows("Depth leaves fewer.").check(synthetic_study(grid, results), "MLP").detail
        'decades that train, by model.depth: 3 at 1, 1 at 10'
    """

    statement: str
    metric: str | None = None
    limit: float = 0.9

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        unit = f"decades of {study.label} per e-fold of {study.across}"
        if study.across is None:
            return without_second_key(unit)
        values = values_of(study, facet, metric) if study.numeric else {}
        across = sorted(set.intersection(*({*v} for v in values.values()))) if values else []
        seeds = common_seeds({(b, a): values[b][a] for b in values for a in across})
        lacking = shortfall(
            (2, len(values), f"values of {study.label}"),
            (2, len(across), f"values of {study.across}"),
            (FEWEST, len(seeds), "seeds"),
        )
        if lacking:
            return Finding.undecided(unit, lacking, FEWEST)
        ranges = {a: [_decades(values, a, s, self.limit) for s in seeds] for a in across}
        if not any(any(decades) for decades in ranges.values()):
            why = f"no cell reaches {metric} {self.limit:g}: the grid holds none that trains"
            return Finding.undecided(unit, why)
        x = np.log([float(a) for a in across])
        slopes = slope(x, np.array([ranges[a] for a in across]).T).tolist()
        interval = mean_interval(slopes)
        shown = ", ".join(f"{float(np.mean(ranges[a])):.2g} at {a:g}" for a in across)
        detail = f"decades that train, by {study.across}: {shown}"
        return Finding.judged(interval, BELOW_ZERO, unit, detail)


def _decades(values: Values, across: float, seed: int, limit: float) -> float:
    good = [by for by in values if values[by][across][seed] >= limit]
    return math.log10(max(good) / min(good)) if good else 0.0
