"""What one choice reaches at one value of the second key against another choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from initstudy.claims.comparison import advantage, mean_of, unit_of
from initstudy.claims.finding import ABOVE_ZERO, Finding, shortfall
from initstudy.claims.second_key import (
    fewest_seeds,
    seeds_of,
    seeds_per_decider,
    tuned_at_edge,
    values_of,
    without_second_key,
)
from initstudy.claims.statistics import FEWEST
from initstudy.columns import LEARNING_TIME
from initstudy.store.frames import Study


@dataclass(frozen=True)
class BetterAt:
    """One choice does better than another at the largest value of the second key, or at another.

    Learning times are compared by the log-rank test, in which a run that never learned was last
    seen at its last step. The values of other metrics are paired by seed; losses are compared as
    ratios, by their logarithms.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to win.
        than: The other choice.
        metric: A column of the runs.
        at: The value of the second key; None for the largest.

    Example:
        >>> from initstudy.claims import BetterAt, synthetic_study
        >>> def results(init, depth, seed):
        ...     return {"learning_time": 100 if init == "orthogonal" else 100 * depth}
        >>> grid = {"init": ["orthogonal", "gaussian"], "model.depth": [2, 8, 32]}
        >>> study = synthetic_study(grid, results)
        >>> claim = BetterAt("Orthogonal ones learn sooner.", "orthogonal", "gaussian")
        >>> claim.check(study, "MLP").detail
        'learning_time at model.depth 32: orthogonal 100, gaussian 3200'
    """

    statement: str
    better: Any
    than: Any
    metric: str = LEARNING_TIME.name
    at: float | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        lower = study.is_lower_better(self.metric)
        unit = unit_of(study, self.metric, lower)
        if study.across is None:
            return without_second_key(unit)
        values = values_of(study, facet, self.metric)
        winner, loser = (values.get(choice, {}) for choice in (self.better, self.than))
        common = winner.keys() & loser.keys()
        at = max(common, default=math.nan) if self.at is None else self.at
        seeds = sorted(winner.get(at, {}).keys() & loser.get(at, {}).keys())
        if len(seeds) < FEWEST:
            have = seeds_of(study, facet) if seeds else 0
            what = f"seeds of both {self.better} and {self.than}"
            lacking = shortfall((fewest_seeds(study), have, what))
            return Finding.undecided(unit, str(lacking), fewest_seeds(study))
        arms = (winner[at], loser[at])
        interval = advantage(study, facet, self.metric, arms, lower=lower, ratio=lower)
        detail = (
            f"{self.metric} at {study.across} {at:g}: {self.better} {mean_of(winner[at]):.4g}, "
            f"{self.than} {mean_of(loser[at]):.4g}"
        )
        both = (self.better, self.than)
        if wider := tuned_at_edge(study, facet, self.metric, {c: (at,) for c in both}):
            return Finding.at_edge(interval, unit, detail, wider)
        return Finding.judged(
            interval,
            ABOVE_ZERO,
            unit,
            detail,
            arms=frozenset((choice, at) for choice in both),
            seeds_per_decider=seeds_per_decider(study),
        )
