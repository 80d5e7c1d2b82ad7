"""One choice does better than others, each at the second key's value that suits it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.second_key import common_seeds, mean, without_second_key
from initstudy.claims.statistics import mean_interval
from initstudy.claims.worse_than_best import with_second_key_tuned
from initstudy.store.cells import points
from initstudy.store.frames import Study


@dataclass(frozen=True)
class BetterAtBest:
    """One choice does better than others, each at the second key's value that suits it best.

    Which value that is, the other seeds decide; the runs of one seed are paired.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to win.
        than: The other choices, each of which must lose.
        metric: A column of the runs; None for the study's objective.

    Example:
        >>> from initstudy.claims import BetterAtBest, synthetic_study
        >>> def results(init, lr, seed):
        ...     best = {"he": 0.1, "small": 0.01}[init]
        ...     return {"test/accuracy": 0.9 if lr == best else 0.5}
        >>> study = synthetic_study({"init": ["he", "small"], "optimizer.lr": [0.01, 0.1]}, results)
        >>> claim = BetterAtBest("He's is better at its best rate.", "he", ["small"])
        >>> finding = claim.check(study, "MLP")
        >>> finding.verdict, finding.estimate
        ('FAIL', 0.0)
    """

    statement: str
    better: Any
    than: Sequence[Any]
    metric: str | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        unit = f"difference of {metric}"
        if study.across is None:
            return without_second_key(unit)
        tuned = points(with_second_key_tuned(study), facet, metric)
        values = {choice: across[0.0] for choice, across in tuned.items()}
        seeds = common_seeds({c: values.get(c, {}) for c in (self.better, *self.than)})
        if lacking := shortfall((2, len(seeds), "seeds of every choice")):
            return Finding.undecided(unit, lacking)
        sign = -1 if study.is_lower_better(metric) else 1
        intervals = {
            other: mean_interval(
                [sign * (values[self.better][s] - values[other][s]) for s in seeds]
            )
            for other in self.than
        }
        closest = min(intervals, key=lambda other: intervals[other].low)
        shown = ", ".join(f"{c} {mean(values[c]):.3f}" for c in (self.better, *self.than))
        detail = f"{metric} at the best {study.across} of each: {shown}"
        interval = intervals[closest]
        return Finding.decided(interval.above_zero, interval, f"{unit} to {closest}", detail)
