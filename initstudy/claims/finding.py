"""What the results of a study say of a claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from initstudy.claims.statistics import LEVEL, Interval

PASS, REFUTED, UNDECIDED = "PASS", "REFUTED", "UNDECIDED"
VERDICTS = (PASS, REFUTED, UNDECIDED)
# The p-value is looked for between these two-sided levels, in so many halvings of its logarithm.
SMALLEST, HALVINGS = 1e-9, 24


@dataclass(frozen=True)
class Region:
    """What a claim says of a number: that it lies between two limits, or at one of them.

    Attributes:
        low: The lower limit.
        high: The upper limit.

    Example:
        >>> from initstudy.claims import Region
        >>> region = Region(low=0.5)
        >>> region.verdict(0.6, 0.8), region.verdict(0.1, 0.2), region.verdict(0.4, 0.8)
        ('PASS', 'REFUTED', 'UNDECIDED')
    """

    low: float = -math.inf
    high: float = math.inf

    def verdict(self, low: float, high: float) -> str:
        """PASS if an interval lies inside of the region, REFUTED if outside, else UNDECIDED."""
        if self.low <= low and high <= self.high:
            return PASS
        return REFUTED if high < self.low or low > self.high else UNDECIDED

    def distance(self, estimate: float) -> float:
        """How far the border lies that an interval has to clear: the nearest one inside."""
        if self.low <= estimate <= self.high:
            return min(estimate - self.low, self.high - estimate)
        return max(self.low - estimate, estimate - self.high)


# Zero itself is no effect.
ABOVE_ZERO = Region(low=math.ulp(0.0))


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim for one facet of a study, and the evidence.

    Attributes:
        verdict: PASS if the interval lies within what is claimed; REFUTED if it lies outside, so
            that the claim is wrong; UNDECIDED if it holds both, or there is none.
        unit: What the deciding number measures.
        detail: The finding in one sentence, or what the study lacks.
        interval: The number that decides, with its 95% interval; None if there is none.
        seeds_needed: How many seeds in all would decide an UNDECIDED claim with a power of 80% if
            the estimate is right; None if that is not known.
        region: What the claim says of the number.
        level: The two-sided level at which the verdict was reached.
        arms: The values of the studied key, or pairs of it and of the second key, that more seeds
            are needed of; None for all of them.
        seeds_per_decider: How many seeds there are for each that decides: more than one if some
            choose.
        blocked: Whether no number of seeds would decide, as if a best value lies at a grid's edge.

    Example:
        >>> Finding.undecided("difference of test/accuracy", "every run diverged").estimate
        nan
    """

    verdict: str
    unit: str
    detail: str
    interval: Interval | None = None
    seeds_needed: int | None = None
    region: Region = field(default=ABOVE_ZERO, repr=False)
    level: float = LEVEL
    arms: frozenset[Any] | None = field(default=None, repr=False)
    seeds_per_decider: float = 1.0
    blocked: bool = False

    @classmethod
    def judged(
        cls, interval: Interval, region: Region, unit: str, detail: str, **more: Any
    ) -> Finding:
        """The verdict on a claim that a number lies in a region."""
        return cls(UNDECIDED, unit, detail, interval, region=region, **more).at(LEVEL)

    @classmethod
    def undecided(cls, unit: str, detail: str, seeds_needed: int | None = None) -> Finding:
        """UNDECIDED, and why."""
        return cls(UNDECIDED, unit, detail, seeds_needed=seeds_needed)

    @classmethod
    def at_edge(cls, interval: Interval, unit: str, detail: str, extend: str) -> Finding:
        """UNDECIDED because a best value lies at the edge of its grid, and how to extend that."""
        said = f"{detail}; {extend}"
        return cls(UNDECIDED, unit, said, interval, blocked=True)

    def at(self, level: float) -> Finding:
        """The same finding at another two-sided level; one that has no interval is unchanged."""
        if self.interval is None or self.blocked:
            return self
        verdict = self.region.verdict(*self.interval.at(level))
        needed = None
        if verdict == UNDECIDED:
            distance = self.region.distance(self.interval.estimate)
            found = self.interval.plan.seeds(distance, level)
            needed = None if found is None else math.ceil(found * self.seeds_per_decider)
        return replace(self, verdict=verdict, seeds_needed=needed, level=level)

    def p(self) -> float:
        """The smallest two-sided level at which the claim is decided; NaN without an interval.

        It is found by halving, to within a thousandth of itself.
        """
        if self.interval is None or self.blocked:
            return math.nan
        interval, region = self.interval, self.region
        decided: Callable[[float], bool] = lambda level: (  # noqa: E731
            region.verdict(*interval.at(level)) != UNDECIDED
        )
        if not decided(1.0 - SMALLEST):
            return 1.0
        low, high = math.log(SMALLEST), 0.0
        if decided(SMALLEST):
            return SMALLEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if decided(math.exp(middle)) else (middle, high)
        return math.exp(high)

    @property
    def detects(self) -> float:
        """The distance from the claim's border that would be decided with a power of 80%."""
        return math.nan if self.interval is None else self.interval.plan.detects(self.level)

    @property
    def estimate(self) -> float:
        """The number that decides; NaN if there is none."""
        return math.nan if self.interval is None else self.interval.estimate

    @property
    def low(self) -> float:
        """The lower end of its interval; NaN if there is none."""
        return math.nan if self.interval is None else self.interval.low

    @property
    def high(self) -> float:
        """The upper end of its interval; NaN if there is none."""
        return math.nan if self.interval is None else self.interval.high

    @property
    def method(self) -> str:
        """How the interval was calculated; a dash if there is none."""
        return "–" if self.interval is None else self.interval.method


def shortfall(*needs: tuple[int, int, str]) -> str | None:
    """What a study has too little of for a claim, in words.

    Args:
        needs: For each requirement, how many are needed, how many the study has, and of what, in
            the plural.

    Returns:
        A sentence, or None if the study has enough of everything.

    Example:
        >>> shortfall((2, 3, "seeds"), (4, 2, "values of init.std"))
        'needs at least 2 seeds and 4 values of init.std; this study has 3 and 2'
        >>> shortfall((2, 2, "seeds"))
    """
    if all(present >= needed for needed, present, _ in needs):
        return None
    wanted = _listed([f"{needed} {what}" for needed, _, what in needs])
    present = _listed([str(present) for _, present, _ in needs])
    return f"needs at least {wanted}; this study has {present}"


def _listed(parts: list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
