"""How the best value of the second key moves with the studied key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.second_key import Seeds, common_seeds, values_of, without_second_key
from initstudy.claims.statistics import mean_interval, slope
from initstudy.columns import TRAIN_LOSS
from initstudy.store.frames import Study


@dataclass(frozen=True)
class BestAcross:
    """How the best value of the second key moves with the studied key.

    For each seed: which value of the second key is best at each studied value, and the slope of its
    logarithm against the logarithm of the studied value.

    Args:
        statement: What is claimed, in words.
        low, high: The limits between which the whole interval must lie.
        metric: A column of the runs.

    Example:
        >>> from initstudy.claims import BestAcross, synthetic_study
        >>> def results(width, lr, seed):
        ...     return {"train/loss": abs(lr * width - 1.6)}
        >>> grid = {"model.width": [16, 32, 64], "optimizer.lr": [0.025, 0.05, 0.1]}
        >>> study = synthetic_study(grid, results)
        >>> finding = BestAcross("The best rate falls with width.", high=-0.5).check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3)
        ('PASS', -1.0)
    """

    statement: str
    low: float = -math.inf
    high: float = math.inf
    metric: str = TRAIN_LOSS.name

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = f"exponent of the best {study.across} in {study.label}"
        if study.across is None:
            return without_second_key(unit)
        values = values_of(study, facet, self.metric) if study.numeric else {}
        seeds = common_seeds({(b, a): v for b, row in values.items() for a, v in row.items()})
        lacking = shortfall((2, len(values), f"values of {study.label}"), (2, len(seeds), "seeds"))
        if lacking:
            return Finding.undecided(unit, lacking)
        pick = min if study.is_lower_better(self.metric) else max

        def best_of(row: Mapping[float, Seeds], seed: int) -> float:
            return pick(row, key=lambda across: row[across][seed])

        best = {by: [best_of(row, seed) for seed in seeds] for by, row in sorted(values.items())}
        x = np.log(list(best))
        slopes = [float(slope(x, np.log([best[by][i] for by in best]))) for i in range(len(seeds))]
        interval = mean_interval(slopes)
        shown = ", ".join(
            f"{float(np.exp(np.mean(np.log(chosen)))):.2g} at {by:g}" for by, chosen in best.items()
        )
        holds = self.low <= interval.low and interval.high <= self.high
        return Finding.decided(holds, interval, unit, f"best {study.across}: {shown}")
