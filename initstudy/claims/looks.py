"""Seeds until decided: fixed looks at the results, which spend the error rate of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# How many seeds there are at each look, and the two-sided error rate that it spends. Their sum is
# 5.5%, but the looks share seeds: together they err in 4.2% of studies in which nothing is the case
# (docs/claims.md has the simulation), where five looks at 5% would err in 17%.
LOOKS: tuple[tuple[int, float], ...] = (
    (3, 0.005),
    (5, 0.008),
    (8, 0.010),
    (12, 0.012),
    (20, 0.020),
)
MOST = LOOKS[-1][0]


@dataclass(frozen=True)
class Looks:
    """What a study that adds seeds until its claims are decided has seen so far.

    Attributes:
        taken: The looks that were taken: how many seeds there were, and the error rate.
        decided: At how many seeds each pair of a claim and a facet was decided.
    """

    taken: tuple[tuple[int, float], ...]
    decided: Mapping[str, int]

    @classmethod
    def recorded(cls, about: Mapping[str, Any]) -> Looks | None:
        """What a study's description says of them; None if it has a fixed number of seeds."""
        record = about.get("looks")
        if not record or not record.get("taken"):
            return None
        taken = tuple((int(seeds), float(level)) for seeds, level in record["taken"])
        return cls(taken, dict(record.get("decided", {})))

    def description(self) -> dict[str, Any]:
        """What `recorded` reads, as plain values."""
        return {"taken": [list(look) for look in self.taken], "decided": dict(self.decided)}


def schedule(most: int) -> tuple[tuple[int, float], ...]:
    """The looks of a study of at most so many seeds; the last one takes all of them.

    What the looks beyond would have spent is not spent.

    Args:
        most: The largest number of seeds, from 3 to 20.

    Raises:
        ValueError: It is another number.

    Example:
        >>> schedule(8)
        ((3, 0.005), (5, 0.008), (8, 0.01))
        >>> schedule(10)
        ((3, 0.005), (5, 0.008), (8, 0.01), (10, 0.012))
    """
    if not LOOKS[0][0] <= most <= MOST:
        raise ValueError(f"must be from {LOOKS[0][0]} to {MOST}, the seeds of the last look")
    before = tuple(look for look in LOOKS if look[0] < most)
    return (*before, (most, LOOKS[len(before)][1]))


def key_of(claim: str, facet: str) -> str:
    """What names a claim on a facet in a study's description."""
    return f"{claim} on {facet}"
