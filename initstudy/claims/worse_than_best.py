"""One end of the studied key does worse than the best values away from that end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from initstudy.claims.finding import ABOVE_ZERO, Finding, Region, shortfall
from initstudy.claims.power import Scatter
from initstudy.claims.second_key import (
    FEWEST_WITH_CHOICE,
    as_array,
    extend,
)
from initstudy.claims.statistics import FEWEST, Bounds, Ends, Interval, best_few_difference, less
from initstudy.store.cells import chooses, edge, selection
from initstudy.store.frames import Study

# The smallest value whose logarithm is compared.
TINY = 1e-12
# So many standard deviations are clear before there are seeds enough to decide: more seeds of the
# values that were not chosen would then change nothing.
CLEAR = 4.0
BELOW_ZERO = Region(high=-ABOVE_ZERO.low)
# Of each value of the studied key, by the second key's value if there is one, the value per seed.
Table = dict[float, dict[Any, dict[int, float]]]


@dataclass(frozen=True)
class WorseThanBest:
    """One end of the studied key does worse than the best values away from that end.

    For each seed: the mean of the metric over the `count` values at the end, minus the mean over
    the `count` best other values (all of them, if there are no more). Every third seed chooses
    which values these are, and the others decide; see
    `initstudy.claims.statistics.best_few_difference`.

    Args:
        statement: What is claimed, in words.
        at: The end, "largest" or "smallest".
        count: How many values make up that end.
        metric: A column of the summary; None for the study's objective.
        higher_is_better: Whether large values of the metric are good; None for what the study's
            schema says of it.
        log: Whether to compare log10 of the metric.
        diverged_as: What a run that diverged counts as; None for chance. With `log` it counts as
            the worst finite value of the facet if that is worse: a lower bound of how bad it was.

    Raises:
        ValueError: `at` is neither of the two.

    Example:
        >>> from initstudy.claims import WorseThanBest, synthetic_study
        >>> def results(std, seed):
        ...     return {"test/accuracy": (0.4 if std > 0.5 else 0.9) + 0.001 * std * seed}
        >>> study = synthetic_study({"init.std": [0.01, 0.1, 1.0]}, results)
        >>> finding = WorseThanBest("Large is worse.", at="largest", count=1).check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3), finding.unit
        ('PASS', -0.497, 'difference of test/accuracy')
    """

    statement: str
    at: str = "largest"
    count: int = 3
    metric: str | None = None
    higher_is_better: bool | None = None
    log: bool = False
    diverged_as: float | None = None

    def __post_init__(self) -> None:
        if self.at not in ("largest", "smallest"):
            raise ValueError(f"claims: at={self.at}: choose largest or smallest")

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        higher = is_higher_better(study, metric, self.higher_is_better)
        unit = f"difference of {'log10 ' if self.log else ''}{metric}"
        values = self._values(study, facet, metric) if study.numeric else {}
        seeds = sorted({s for row in values.values() for cell in row.values() for s in cell})
        lacking = shortfall(
            (FEWEST_WITH_CHOICE, len(seeds), "seeds (every third of which chooses)"),
            (self.count + 1, len(values), f"values of {study.label}"),
        )
        if lacking and (len(seeds) < FEWEST or len(values) <= self.count):
            return Finding.undecided(unit, lacking, FEWEST_WITH_CHOICE)
        ordered = sorted(values)
        end = ordered[-self.count :] if self.at == "largest" else ordered[: self.count]
        rest = [value for value in ordered if value not in end]
        merits = self._values(study, facet, selection(study, metric))
        compared = Compared.of(values, merits, (rest, end), seeds, 1 if higher else -1)
        interval = compared.interval.negated() if higher else compared.interval
        best, at_best, at_end = compared.best, compared.at_best, compared.at_end
        diverged = _diverged(study, facet, end)
        detail = (
            f"{metric} is {self._shown(at_end)} at the {self.count} {self.at} values "
            f"({study.label} {end[0]:g} to {end[-1]:g}{diverged}) "
            f"and {self._shown(at_best)} at the best {len(best)} others ({_span(list(best))})"
        )
        leans = compared.interval.estimate > 0
        arms = frozenset({*end, *best}) if leans else None
        if lacking:
            clear = compared.interval.estimate > CLEAR * compared.scatter
            few = Finding.undecided(unit, lacking, FEWEST_WITH_CHOICE)
            return replace(few, arms=arms if clear else None)
        if self._second_key(study) and (wider := compared.edge(study)):
            return Finding.at_edge(interval, unit, detail, wider)
        hurts = BELOW_ZERO if higher else ABOVE_ZERO
        top = next(iter(best))
        beyond = edge(rest, top)
        outer = "below" if self.at == "largest" else "above"
        if not leans and beyond and beyond.startswith(outer):
            # A wider grid might hold a better value, and so uphold the claim.
            wider = extend(study.label, top, "the others", beyond)
            return Finding.at_edge(interval, unit, detail, wider)
        return Finding.judged(
            interval,
            hurts,
            unit,
            detail,
            arms=arms,
            seeds_per_decider=len(seeds) / max(interval.n, 1),
        )

    def _second_key(self, study: Study) -> bool:
        return False

    def _values(self, study: Study, facet: str, metric: str) -> Table:
        """The metric by studied value and seed, and by the second key if it counts."""
        runs = study.runs_of(facet)
        second = pl.col("across") if self._second_key(study) else pl.lit(0.0)
        rows = runs.select("by", second.alias("second"), "seed", self._value(study, facet, metric))
        table: Table = {}
        for by, key, seed, value in rows.drop_nulls("by").iter_rows():
            table.setdefault(by, {}).setdefault(key, {})[seed] = value
        return table

    def _value(self, study: Study, facet: str, metric: str) -> pl.Expr:
        value = study.value(metric, facet)
        if self.diverged_as is not None and study.diverged_as == "chance":
            stand_in = self.diverged_as
            if self.log:
                stand_in = max(stand_in, study.stand_in(metric, facet))
            value = pl.when(pl.col("diverged")).then(stand_in).otherwise(value)
        return (value.clip(TINY).log10() if self.log else value).alias("value")

    def _shown(self, value: float) -> str:
        return f"{10**value:.3g}" if self.log else f"{value:.3f}"


@dataclass(frozen=True)
class StillWorse(WorseThanBest):
    """`WorseThanBest` where every value may take the second key's value that suits it best.

    The best other values are compared with those at the end at each combination of their second
    keys, so they have to beat the best of them. If one of the best second keys lies at the edge of
    its grid the claim is UNDECIDED, for a wider grid might rescue the end.

    Example:
        >>> from initstudy.claims import StillWorse, synthetic_study
        >>> def results(std, lr, seed):
        ...     return {"test/accuracy": (0.9 if 0.005 < std * lr < 0.05 else 0.1) + 0.001 * seed}
        >>> rates = [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]
        >>> study = synthetic_study({"init.std": [0.01, 0.1, 1.0], "optimizer.lr": rates}, results)
        >>> StillWorse("No rate rescues a large one.", count=1).check(study, "MLP").verdict
        'UNDECIDED'
    """

    def _second_key(self, study: Study) -> bool:
        return study.across is not None


@dataclass(frozen=True)
class Compared:
    """The best of some values against the values at an end.

    Attributes:
        interval: Of the best mean less that of the end, in the direction in which large is good.
        best: The best values of the second key, by the best values of the studied key.
        at_best, at_end: What both reach on the seeds that decide.
        scatter: The standard deviation of their difference between those seeds.
        ends: The best values of the second key at the end, by value of the studied key.
        grids: The values of the second key, by value of the studied key.
    """

    interval: Interval
    best: dict[float, Any]
    at_best: float
    at_end: float
    scatter: float
    ends: dict[float, Any]
    grids: dict[float, list[Any]]

    @classmethod
    def of(
        cls,
        values: Table,
        merits: Table,
        parts: tuple[list[float], list[float]],
        seeds: list[int],
        sign: int,
    ) -> Compared:
        """Compares the parts of a table.

        Args:
            values: What is compared.
            merits: By what the best is chosen.
            parts: The values of the studied key among which the best is, and those at the end.
            seeds: The seeds.
            sign: 1 if large values are good, else -1.
        """
        rest, end = parts
        choosing = np.array(chooses(seeds))
        keys = sorted({key for by in rest for key in values[by]}, key=_order)
        count = min(len(end), len(rest))

        def array(cells: list[tuple[float, Any]]) -> np.ndarray:
            chosen, decided = (
                as_array([table[by].get(second, {}) for by, second in cells], seeds)
                for table in (merits, values)
            )
            return sign * np.where(choosing, chosen, decided)

        first = np.array([array([(by, key) for key in keys]) for by in rest])
        second_keys = [sorted(values[by], key=_order) for by in end]
        combined = list(product(*second_keys))
        at_end = {
            (by, key): array([(by, key)])[0]
            for by, keys in zip(end, second_keys, strict=True)
            for key in keys
        }
        second = np.array(
            [
                np.mean([at_end[pair] for pair in zip(end, some, strict=True)], axis=0)
                for some in combined
            ]
        )
        _, _, ours, theirs = best_few_difference(first, second, choosing, 0.5, count)
        best = {rest[int(value)]: keys[int(key)] for value, key in ours}
        worst = combined[int(theirs)]
        at_best = np.mean([first[int(value), int(key)] for value, key in ours], axis=0)

        def at(level: float) -> Ends:
            low, high, *_ = best_few_difference(first, second, choosing, level, count)
            return float(low), float(high)

        differences = less(at_best, second[int(theirs)])[~choosing]
        interval, scatter = _interval(differences, int(choosing.sum()), at)
        return cls(
            interval,
            best,
            sign * _mean(at_best[~choosing]),
            sign * _mean(second[int(theirs)][~choosing]),
            scatter,
            dict(zip(end, worst, strict=True)),
            {by: list(row) for by, row in values.items()},
        )

    def edge(self, study: Study) -> str | None:
        """Where to extend the second key's grid, if one of its best values lies at its edge."""
        for by, key in (*self.best.items(), *self.ends.items()):
            if beyond := edge(self.grids[by], key):
                at = f"{study.label} {by:g}"
                return extend(str(study.across), key, at, beyond)
        return None


def _interval(differences: np.ndarray, chose: int, at: Bounds) -> tuple[Interval, float]:
    """The interval of differences per seed, of which a few may be missing, and their scatter."""
    present = differences[~np.isnan(differences)]
    finite = present[np.isfinite(present)]
    n = len(present)
    scatter = float(finite.std(ddof=1)) if len(finite) > 1 else float("nan")
    method = f"Student's t, n={n} seeds; {chose} others chose"
    if n < FEWEST:
        method = f"none: {n} seeds decide, and it takes {FEWEST}"
    return Interval.of(_mean(present), n, method, at, Scatter(scatter, n)), scatter


def is_higher_better(study: Study, metric: str, stated: bool | None) -> bool:
    """Whether large values of a metric are good: as a claim states it, or as the schema does."""
    return not study.is_lower_better(metric) if stated is None else stated


def complete(table: pl.DataFrame) -> pl.DataFrame:
    """A table of one row per value and one column per seed, less the seeds that lack a value."""
    kept = [c for c in table.columns if c == "by" or table[c].null_count() == 0]
    return table.select(kept).sort("by")


def _order(key: Any) -> tuple[bool, Any]:
    return (isinstance(key, str), key)


def _diverged(study: Study, facet: str, values: list[float]) -> str:
    runs = study.runs_of(facet).filter(pl.col("by").is_in(values))
    count = int(runs["diverged"].sum())
    return f", {count} of {len(runs)} runs diverged" if count else ""


def _mean(values: np.ndarray) -> float:
    """The mean of the values that there are; NaN if there is none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
