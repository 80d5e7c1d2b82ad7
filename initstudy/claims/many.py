"""Many claims at once: Holm's correction within a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initstudy.claims.finding import Finding
from initstudy.claims.statistics import LEVEL


def holm(findings: Sequence[Finding], level: float = LEVEL) -> list[Finding]:
    """The findings of one report, of which any is wrong in at most `level` of reports.

    Holm's procedure (1979): the claim with the smallest of m p-values is decided at level/m, the
    next one at level/(m-1), and so on, until one is not; that one and all after it stay UNDECIDED.
    Findings without an interval, which nothing can decide, do not count.

    Args:
        findings: The findings.
        level: The two-sided level of the whole report.

    Example:
        >>> from initstudy.claims.finding import ABOVE_ZERO
        >>> from initstudy.claims.statistics import mean_interval
        >>> clear, weak = mean_interval([2.0, 2.1, 1.9] * 2), mean_interval([0.1, 1.0, 1.2] * 2)
        >>> found = [Finding.judged(i, ABOVE_ZERO, "", "") for i in (clear, weak)]
        >>> [finding.verdict for finding in found]
        ['PASS', 'PASS']
        >>> [finding.verdict for finding in holm([*found, *found[1:] * 3])]
        ['PASS', 'UNDECIDED', 'UNDECIDED', 'UNDECIDED', 'UNDECIDED']
    """
    values = {number: finding.p() for number, finding in enumerate(findings)}
    order = sorted((n for n in values if not math.isnan(values[n])), key=values.__getitem__)
    corrected = list(findings)
    for rank, number in enumerate(order):
        own = level / (len(order) - rank)
        if values[number] > own:
            for other in order[rank:]:
                # Some of these would be decided at a level of their own.
                corrected[other] = corrected[other].at(min(own, values[other] / 2))
            break
        corrected[number] = corrected[number].at(own)
    return corrected


def adjusted(findings: Sequence[Finding]) -> list[float]:
    """Holm's p-values: the smallest level of the whole report at which each is decided.

    Example:
        >>> adjusted([Finding.undecided("", "nothing")])
        [nan]
    """
    values = [finding.p() for finding in findings]
    order = sorted(
        (n for n in range(len(values)) if not math.isnan(values[n])), key=values.__getitem__
    )
    largest = 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[number]))
        values[number] = largest
    return values
