"""What most seeds of a choice reach: claims about shares of runs, which exact intervals decide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from initstudy.claims.finding import Finding, Region, shortfall
from initstudy.claims.second_key import by_seed, tuned_at_edge, values_of, without_second_key
from initstudy.claims.statistics import share_interval
from initstudy.store.frames import Study

HALF = 0.5


def most_seeds(
    values: Mapping[int, float], limits: tuple[float, float], share: float, what: str, **more: Any
) -> Finding:
    """Whether more than a share of the seeds lie between two limits.

    A mean would hide the seed in ten that never trains, which three seeds show in one study of
    four. The share of seeds has an exact interval (Clopper & Pearson 1934), whatever the values
    are distributed like: three of three leave a share of 29%, and eight of eight one of 63%.

    Args:
        values: The values by seed.
        limits: The limits, which belong to what is claimed.
        share: The share of seeds that has to lie between them.
        what: What the values are, in words.
        more: Further arguments of `Finding`.
    """
    low, high = limits
    unit = f"share of seeds with {what} {_between(low, high)}"
    inside = sum(low <= value <= high for value in values.values())
    interval = share_interval(inside, len(values), share)
    middle = median(values.values())
    detail = f"{what} is {middle:.4g} in the median; {inside} of {len(values)} seeds lie "
    detail += _between(low, high)
    above = Region(low=math.nextafter(share, 1.0))
    return Finding.judged(interval, above, unit, detail, **more)


@dataclass(frozen=True)
class _Limit:
    """A choice stays on one side of a limit."""

    statement: str
    choice: str
    limit: float
    metric: str | None = None
    share: float = HALF

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        values = by_seed(study, facet, self.choice, metric)
        if lacking := shortfall((1, len(values), f"seeds of {self.choice}")):
            return Finding.undecided(f"share of seeds by {metric}", lacking)
        what = f"{metric} of {self.choice}"
        arms = frozenset({self.choice})
        return most_seeds(values, self._limits(), self.share, what, arms=arms)

    def _limits(self) -> tuple[float, float]:
        raise NotImplementedError


@dataclass(frozen=True)
class AtMost(_Limit):
    """Most seeds of a choice stay at or below a limit, as those that learn nothing stay at chance.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.
        limit: The limit of the metric.
        metric: A column of the summary; None for the study's objective.
        share: The share of seeds that more than have to stay there: by default one half, which
            makes it a claim about the median.

    Example:
        >>> from initstudy.claims import AtMost, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": {"he": 0.9, "xavier": 0.6}[init]}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> AtMost("Xavier's stays at chance.", "xavier", limit=0.12).check(study, "MLP").verdict
        'REFUTED'
    """

    def _limits(self) -> tuple[float, float]:
        return -math.inf, self.limit


@dataclass(frozen=True)
class AtLeast(_Limit):
    """Most seeds of a choice reach a limit; the arguments are those of `AtMost`.

    Example:
        >>> from initstudy.claims import AtLeast, synthetic_study
        >>> def results(init, seed):
        ...     return {"test/accuracy": {"he": 0.9, "xavier": 0.6}[init]}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> AtLeast("He's learns.", "he", limit=0.8).check(study, "MLP").verdict
        'PASS'
    """

    def _limits(self) -> tuple[float, float]:
        return self.limit, math.inf


@dataclass(frozen=True)
class Within:
    """In most seeds a metric of one choice lies between two limits at a value of the second key.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.
        low, high: The limits.
        metric: A column of the runs; None for the study's objective. A learning time that was never
            reached counts as longer than any limit.
        at: The value of the second key; None for the largest.
        share: The share of seeds that more than have to lie between the limits.

    Example:
        >>> from initstudy.claims import Within, synthetic_study
        >>> def results(init, depth, seed):
        ...     return {"learning_time": 100 if init == "orthogonal" else 100 * depth}
        >>> grid = {"init": ["orthogonal", "gaussian"], "model.depth": [2, 8, 32]}
        >>> study = synthetic_study(grid, results)
        >>> claim = Within("A deep one takes long.", "gaussian", low=3000, metric="learning_time")
        >>> claim.check(study, "MLP").verdict
        'PASS'
    """

    statement: str
    choice: Any
    low: float = -math.inf
    high: float = math.inf
    metric: str | None = None
    at: float | None = None
    share: float = HALF

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        if study.across is None:
            return without_second_key(metric)
        values = values_of(study, facet, metric).get(self.choice, {})
        at = max(values, default=math.nan) if self.at is None else self.at
        here = values.get(at, {})
        if lacking := shortfall((1, len(here), f"seeds of {self.choice}")):
            return Finding.undecided(metric, lacking)
        what = f"{metric} of {self.choice} at {study.across} {at:g}"
        arms = frozenset({(self.choice, at)})
        finding = most_seeds(here, (self.low, self.high), self.share, what, arms=arms)
        if wider := tuned_at_edge(study, facet, metric, {self.choice: (at,)}):
            assert finding.interval is not None
            return Finding.at_edge(finding.interval, finding.unit, finding.detail, wider)
        return finding


def _between(low: float, high: float) -> str:
    if math.isinf(low):
        return f"at most {high:g}"
    return f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
