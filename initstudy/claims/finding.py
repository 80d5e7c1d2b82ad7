"""What the results of a study say of a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass

from initstudy.claims.statistics import Interval

PASS, FAIL, UNDECIDED = "PASS", "FAIL", "UNDECIDED"


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim for one facet of a study, and the evidence.

    Attributes:
        verdict: PASS, FAIL, or UNDECIDED if the study cannot tell.
        unit: What the deciding number measures.
        detail: The finding in one sentence, or what the study lacks.
        interval: The number that decided, with its 95% interval; None for UNDECIDED.
        seeds_needed: How many seeds would decide, if that is known.

    Example:
        >>> Finding.undecided("difference of test/accuracy", "every run diverged").estimate
        nan
    """

    verdict: str
    unit: str
    detail: str
    interval: Interval | None = None
    seeds_needed: int | None = None

    @classmethod
    def decided(cls, holds: bool, interval: Interval, unit: str, detail: str) -> Finding:
        """PASS or FAIL, by the interval of a number."""
        return cls(PASS if holds else FAIL, unit, detail, interval)

    @classmethod
    def undecided(cls, unit: str, detail: str, seeds_needed: int | None = None) -> Finding:
        """UNDECIDED, and why."""
        return cls(UNDECIDED, unit, detail, seeds_needed=seeds_needed)

    @property
    def estimate(self) -> float:
        """The number that decided; NaN if there is none."""
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
