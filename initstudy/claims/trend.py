"""How fast a metric changes along the second key, for one choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.second_key import common_seeds, mean, values_of, without_second_key
from initstudy.claims.statistics import mean_interval, slope
from initstudy.columns import LEARNING_TIME
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Trend:
    """How fast a metric changes along the second key, for one choice.

    For each seed: the slope of ln(metric) against ln(second key), which is the exponent of a power
    law. A run that never reached the criterion counts with all the steps it had, a lower bound.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.
        low, high: The limits between which the whole interval must lie.
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
        lacking = shortfall(
            (2, len(values), f"values of {study.across}"),
            (2, len(seeds), f"seeds of {self.choice}"),
        )
        if lacking:
            return Finding.undecided(unit, lacking)
        x = np.log([float(value) for value in values])
        slopes = [float(slope(x, np.log([values[a][s] for a in values]))) for s in seeds]
        interval = mean_interval(slopes)
        first, last = (values[a] for a in (min(values), max(values)))
        detail = (
            f"{self.metric} of {self.choice} is {mean(first):.4g} at {study.across} "
            f"{min(values):g} and {mean(last):.4g} at {max(values):g}"
        )
        holds = self.low <= interval.low and interval.high <= self.high
        return Finding.decided(holds, interval, unit, detail)
