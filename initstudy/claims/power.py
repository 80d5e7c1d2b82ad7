"""How many seeds a claim takes, and which effect some seeds would show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

POWER = 0.8
MOST_SEEDS = 10_000


class Plan(Protocol):
    """What seeds tell of a number, given what is known of its scatter."""

    def detects(self, level: float) -> float:
        """The distance from a claim's border that these seeds show with a power of 80%."""

    def seeds(self, distance: float, level: float) -> int | None:
        """How many seeds show a distance with that power; None if no number of them is known."""


@dataclass(frozen=True)
class Scatter:
    """Of a mean by Student's t.

    Attributes:
        sd: The standard deviation between seeds; NaN if it is not known.
        n: How many seeds there are.
        fewest: Below how many seeds the method decides nothing.

    Example:
        >>> round(Scatter(sd=1.0, n=3).detects(0.05), 1), round(Scatter(1.0, 8).detects(0.05), 1)
        (3.3, 1.2)
        >>> Scatter(1.0, 3).seeds(1.0, 0.05)
        10
    """

    sd: float
    n: int
    fewest: int = 3

    def detects(self, level: float) -> float:
        """The distance from a claim's border that these seeds show with a power of 80%."""
        if not self.sd > 0 or self.n < self.fewest:
            return math.nan
        return self.sd * detectable(self.n, level)

    def seeds(self, distance: float, level: float) -> int | None:
        """How many seeds show a distance with that power."""
        # Equal values look like signs, of which n agree by chance in 2^(1-n) of studies.
        signs = math.ceil(1 - math.log2(level))
        if math.isinf(distance) or self.sd == 0:
            return max(self.fewest, signs, self.n + 1)
        if not self.sd > 0 or not distance > 0:
            return None
        effect = distance / self.sd
        return _first(lambda n: detectable(n, level) <= effect, self.fewest)


@dataclass(frozen=True)
class Share:
    """Of a share by Clopper and Pearson's exact interval.

    Attributes:
        limit: The share with which a claim compares it.
        n: How many seeds there are.

    Example:
        >>> Share(limit=0.5, n=3).seeds(0.5, 0.05)
        6
    """

    limit: float
    n: int

    def detects(self, level: float) -> float:
        """The distance from the limit that these seeds show with a power of 80%."""
        shares = [self.limit + (1 - self.limit) * i / 50 for i in range(1, 51)]
        return next(
            (s - self.limit for s in shares if self._power(s, self.n, level) >= POWER), math.nan
        )

    def seeds(self, distance: float, level: float) -> int | None:
        """How many seeds show a distance with that power."""
        if not distance > 0:
            return None
        # Above the limit or below it, whichever takes more seeds.
        side = Share(max(self.limit, 1 - self.limit), self.n)
        share = min(side.limit + distance, 1.0)
        if share == side.limit:
            return None
        return _first(lambda n: side._power(share, n, level) >= POWER, 1, most=2000)

    def _power(self, share: float, n: int, level: float) -> float:
        """How often n seeds of a certain share put the limit outside of the interval."""
        from scipy.special import bdtrc

        # The interval lies above the limit if so many or more are as rare as half of the level.
        fewest = next(
            (k for k in range(n + 1) if k and bdtrc(k - 1, n, self.limit) <= level / 2), None
        )
        return 0.0 if fewest is None else float(bdtrc(fewest - 1, n, share))


@lru_cache(maxsize=4096)
def detectable(n: int, level: float) -> float:
    """The mean, in standard deviations, that a t test of n seeds shows with a power of 80%.

    It is the noncentrality at which the noncentral t distribution exceeds the critical value that
    often, over √n.

    Args:
        n: The number of seeds, at least two.
        level: The two-sided level.
    """
    from scipy.optimize import brentq
    from scipy.special import nctdtr, stdtrit

    critical = float(stdtrit(n - 1, 1 - level / 2))
    if n > 300:
        return (float(stdtrit(n - 1, POWER)) + critical) / math.sqrt(n)
    reached = lambda shift: nctdtr(n - 1, shift, critical) - (1 - POWER)  # noqa: E731
    return float(brentq(reached, 0.0, 4 * critical + 4)) / math.sqrt(n)


def _first(holds: Callable[[int], bool], fewest: int, most: int = MOST_SEEDS) -> int | None:
    """The smallest number from `fewest` on for which something holds that holds of large ones."""
    low, high = fewest, fewest
    while not holds(high):
        low, high = high + 1, 2 * high
        if high > most:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
