"""One choice does better than others, each at the second key's value that suits it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from initstudy.claims.finding import ABOVE_ZERO, Finding, shortfall
from initstudy.claims.power import Scatter
from initstudy.claims.second_key import (
    FEWEST_WITH_CHOICE,
    as_array,
    common_seeds,
    extend,
    without_second_key,
)
from initstudy.claims.statistics import Ends, Interval, best_difference, less, smallest
from initstudy.store.cells import chooses, edge, points, selection
from initstudy.store.frames import Study


@dataclass(frozen=True)
class BetterAtBest:
    """One choice does better than others, each at the second key's value that suits it best.

    Every third seed chooses the winner's value, which has to beat the other choice at each of its
    own; see `initstudy.claims.statistics.best_difference`. A best value at the edge of the grid
    leaves the claim UNDECIDED.

    Args:
        statement: What is claimed, in words.
        better: The choice that is claimed to win.
        than: The other choices, each of which must lose.
        metric: A column of the runs; None for the study's objective.

    Example:
        >>> from initstudy.claims import BetterAtBest, synthetic_study
        >>> def results(init, lr, seed):
        ...     best = {"he": 0.1, "small": 0.01}[init]
        ...     return {"test/accuracy": (0.9 if lr == best else 0.5) + 0.01 * (seed % 3)}
        >>> rates = [0.001, 0.01, 0.1, 1.0]
        >>> study = synthetic_study({"init": ["he", "small"], "optimizer.lr": rates}, results)
        >>> claim = BetterAtBest("He's is better at its best rate.", "he", ["small"])
        >>> claim.check(study, "MLP").detail
        'test/accuracy at the best optimizer.lr of each: he 0.914 at 0.1, small 0.914 at 0.01'
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
        values = points(study, facet, metric)
        choices = (self.better, *self.than)
        seeds = common_seeds(
            {(c, a): v for c in choices for a, v in values.get(c, {0: {}}).items()}
        )
        lacking = shortfall(
            (FEWEST_WITH_CHOICE, len(seeds), "seeds of every choice (every third of which chooses)")
        )
        if lacking:
            return Finding.undecided(unit, lacking, FEWEST_WITH_CHOICE)
        sign = -1 if study.is_lower_better(metric) else 1
        choosing = np.array(chooses(seeds))
        merits = points(study, facet, selection(study, metric))

        def array(choice: Any) -> np.ndarray:
            rows = [list(table[choice].values()) for table in (merits, values)]
            chosen, decided = (as_array(row, seeds) for row in rows)
            return sign * np.where(choosing, chosen, decided)

        ours = array(self.better)
        best = {self.better: _best(ours, choosing)}
        intervals = []
        for other in self.than:
            theirs = array(other)
            best[other] = _best(theirs, choosing)
            intervals.append(_interval(ours, theirs, choosing))
        at = {choice: list(values[choice])[place] for choice, place in best.items()}
        reached = {
            choice: float(np.mean([values[choice][at[choice]][s] for s in _deciding(seeds)]))
            for choice in choices
        }
        shown = ", ".join(f"{c} {reached[c]:.3f} at {_short(at[c])}" for c in choices)
        detail = f"{metric} at the best {study.across} of each: {shown}"
        closest = min(intervals, key=lambda interval: interval.estimate)
        unit = f"{unit} to {self.than[intervals.index(closest)]}"
        interval = smallest(intervals)
        for choice in choices:
            if beyond := edge(list(values[choice]), at[choice]):
                wider = extend(study.across, at[choice], choice, beyond)
                return Finding.at_edge(interval, unit, detail, wider)
        arms = frozenset((c, a) for c in choices for a in values[c])
        return Finding.judged(interval, ABOVE_ZERO, unit, detail, arms=arms, seeds_per_decider=1.5)


def _interval(ours: np.ndarray, theirs: np.ndarray, choosing: np.ndarray) -> Interval:
    """Of the best of ours less the best of theirs."""

    def at(level: float) -> Ends:
        low, high, *_ = best_difference(ours, theirs, choosing, level)
        return float(low), float(high)

    difference = less(ours[_best(ours, choosing)], theirs[_best(theirs, choosing)])[~choosing]
    n = len(difference)
    finite = difference[np.isfinite(difference)]
    method = f"Student's t, n={n} seeds; {int(choosing.sum())} others chose"
    plan = Scatter(float(finite.std(ddof=1)) if len(finite) > 1 else float("nan"), n)
    return Interval.of(float(difference.mean()), n, method, at, plan)


def _best(values: np.ndarray, choosing: np.ndarray) -> int:
    return int(values[:, choosing].mean(1).argmax())


def _deciding(seeds: Sequence[int]) -> list[int]:
    return [seed for seed, one in zip(seeds, chooses(seeds), strict=True) if not one]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)
