"""Claims about a studied key whose values are choices, such as initializers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from initstudy.claims.comparison import advantage, mean_of, unit_of
from initstudy.claims.finding import ABOVE_ZERO, Finding, shortfall
from initstudy.claims.second_key import by_seed
from initstudy.claims.statistics import FEWEST, Interval, paired_shares, smallest
from initstudy.claims.worse_than_best import is_higher_better
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Better:
    """One choice does better than another, or than each of several.

    The runs of one seed are paired: they saw the same data in the same order. Learning times are
    compared by the log-rank test.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to win.
        than: The other choice, or several, each of which must lose.
        metric: A column of the summary; None for the study's objective.
        higher_is_better: Whether large values of the metric are good; None for what the study's
            schema says of it.
        by_more_than: The smallest advantage that counts, in the units of the metric. A negative one
            claims that the choice is at most so much worse.

    Example:
        >>> from initstudy.claims import Better, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": {"he": 0.9, "xavier": 0.6}[init]}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> Better("He's beats Xavier's.", better="he", than="xavier").check(study, "MLP").detail
        'test/accuracy: he 0.900, xavier 0.600'
    """

    statement: str
    better: str
    than: str | Sequence[str]
    metric: str | None = None
    higher_is_better: bool | None = None
    by_more_than: float = 0.0

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        unit = unit_of(study, metric, False)
        others = [self.than] if isinstance(self.than, str) else list(self.than)
        values = {c: by_seed(study, facet, c, metric) for c in (self.better, *others)}
        winner = values[self.better]
        lower = not is_higher_better(study, metric, self.higher_is_better)
        intervals: dict[str, Interval] = {}
        for other in others:
            seeds = len(winner.keys() & values[other].keys())
            if lacking := shortfall((FEWEST, seeds, f"seeds of both {self.better} and {other}")):
                return Finding.undecided(unit, lacking, FEWEST)
            arms = (winner, values[other])
            intervals[other] = advantage(study, facet, metric, arms, lower=lower)
        closest = min(intervals, key=lambda other: intervals[other].estimate)
        shown = f"{closest} {mean_of(values[closest]):.3f}"
        said = "" if len(others) == 1 else ", the closest of the others"
        detail = f"{metric}: {self.better} {mean_of(winner):.3f}, {shown}{said}"
        region = ABOVE_ZERO
        if self.by_more_than:
            region = type(region)(low=self.by_more_than)
        interval = smallest(list(intervals.values()))
        return Finding.judged(
            interval, region, unit, detail, arms=frozenset({self.better, *others})
        )


@dataclass(frozen=True)
class TrainsMoreOften:
    """More seeds of one choice reach a limit than of another, by McNemar's exact test.

    The runs of one seed are paired, and what counts is in how many pairs only one of them reaches
    the limit.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to train more often.
        than: The other choice.
        limit: The metric from which a run counts as trained.
        metric: A column of the summary; None for the study's objective.

    Example:
        >>> from initstudy.claims import TrainsMoreOften, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": 0.9 if init == "he" or seed == 3 else 0.1}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> finding = TrainsMoreOften("x", "he", "xavier", limit=0.5).check(study, "MLP")
        >>> finding.verdict, finding.method
        ('PASS', 'McNemar, exact, 7 of 8 pairs differ')
    """

    statement: str
    better: str
    than: str
    limit: float
    metric: str | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        unit = f"difference of the shares of seeds that reach {metric} {self.limit:g}"
        values = [by_seed(study, facet, c, metric) for c in (self.better, self.than)]
        seeds = sorted(values[0].keys() & values[1].keys())
        if lacking := shortfall((1, len(seeds), f"seeds of both {self.better} and {self.than}")):
            return Finding.undecided(unit, lacking)
        lower = study.is_lower_better(metric)
        reached = [[reaches(v[s], self.limit, lower) for s in seeds] for v in values]
        interval = paired_shares(*reached)
        counts = [f"{sum(r)} of {len(seeds)}" for r in reached]
        detail = f"{self.better} trains in {counts[0]} seeds, {self.than} in {counts[1]}"
        arms = frozenset({self.better, self.than})
        return Finding.judged(interval, ABOVE_ZERO, unit, detail, arms=arms)


def reaches(value: float, limit: float, lower: bool) -> bool:
    """Whether a value is at least as good as a limit."""
    return value <= limit if lower else value >= limit
