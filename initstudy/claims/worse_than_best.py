"""One end of the studied key does worse than the best value away from that end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.statistics import mean_interval
from initstudy.store.cells import cells
from initstudy.store.frames import Study, finite_or

# The smallest value whose logarithm is compared.
TINY = 1e-12


@dataclass(frozen=True)
class WorseThanBest:
    """One end of the studied key does worse than the best value away from that end.

    For each seed: the mean of the metric over the `count` values at the end, minus the metric at
    the best other value. Which value is best is decided by the *other* seeds, so that no number is
    compared with a best that it helped to choose. (If there is no effect at all, three seeds and
    eleven other values pass in 5% of studies; choosing by all seeds, in 12%.)

    Args:
        statement: What is claimed, in words.
        at: The end, "largest" or "smallest".
        count: How many values make up that end.
        metric: A column of the summary; None for the study's objective.
        higher_is_better: Whether large values of the metric are good; None for what the study's
            schema says of it.
        log: Whether to compare log10 of the metric. A run that diverged then counts with the worst
            finite value of the facet, or with `diverged_as` if that is worse: a lower bound of how
            bad it was.
        diverged_as: What a metric that is not finite counts as.

    Raises:
        ValueError: `at` is neither of the two.

    Example:
        >>> from initstudy.claims import WorseThanBest, synthetic_study
        >>> def results(std, seed):
        ...     return {"test/accuracy": 0.4 if std > 0.5 else 0.9}
        >>> study = synthetic_study({"init.std": [0.01, 0.1, 1.0]}, results)
        >>> finding = WorseThanBest("Large is worse.", at="largest", count=1).check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3), finding.unit
        ('PASS', -0.5, 'difference of test/accuracy')
    """

    statement: str
    at: str = "largest"
    count: int = 3
    metric: str | None = None
    higher_is_better: bool | None = None
    log: bool = False
    diverged_as: float = 0.0

    def __post_init__(self) -> None:
        if self.at not in ("largest", "smallest"):
            raise ValueError(f"claims: at={self.at}: choose largest or smallest")

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        metric = self.metric or study.objective
        higher = is_higher_better(study, metric, self.higher_is_better)
        unit = f"difference of {'log10 ' if self.log else ''}{metric}"
        table = self._table(study, facet, metric)
        values = table["by"].to_list() if study.numeric else []
        seeds = [c for c in table.columns if c != "by"]
        lacking = shortfall(
            (2, len(seeds), "seeds"), (self.count + 1, len(values), f"values of {study.label}")
        )
        if lacking:
            return Finding.undecided(unit, lacking)
        end = slice(-self.count, None) if self.at == "largest" else slice(0, self.count)
        rest = slice(0, -self.count) if self.at == "largest" else slice(self.count, None)
        data = table.select(seeds).to_numpy()
        best = [
            rest.indices(len(data))[0] + _best(np.delete(data[rest], i, axis=1), higher)
            for i in range(len(seeds))
        ]
        differences = [data[end, i].mean() - data[best[i], i] for i in range(len(seeds))]
        interval = mean_interval(differences)
        at_end = self._shown(data[end].mean())
        at_best = self._shown(float(np.mean([data[b, i] for i, b in enumerate(best)])))
        diverged = _diverged(study, facet, values[end])
        detail = (
            f"{metric} is {at_end} at the {self.count} {self.at} values "
            f"({study.label} {values[end][0]:g} to {values[end][-1]:g}{diverged}) "
            f"and {at_best} at the best other one ({_span([values[b] for b in best])})"
        )
        hurts = interval.below_zero if higher else interval.above_zero
        return Finding.decided(hurts, interval, unit, detail)

    def _table(self, study: Study, facet: str, metric: str) -> pl.DataFrame:
        """One row per value and one column per seed; seeds that lack a value are left out."""
        runs = study.runs_of(facet)
        finite = runs.filter(pl.col(metric).cast(pl.Float64).is_finite())[metric]
        worst: Any = finite.max() if self.log else None
        stand_in = max(self.diverged_as, worst or 0.0) if self.log else self.diverged_as
        value = finite_or(metric, stand_in)
        value = value.clip(TINY).log10() if self.log else value
        table = runs.with_columns(value.alias("value")).pivot(
            on="seed", index="by", values="value", aggregate_function="mean"
        )
        return complete(table)

    def _shown(self, value: float) -> str:
        return f"{10**value:.3g}" if self.log else f"{value:.3f}"


@dataclass(frozen=True)
class StillWorse(WorseThanBest):
    """`WorseThanBest` where every value may take the second key's value that suits it best.

    Which value of the second key that is, the other seeds decide.

    Example:
        >>> from initstudy.claims import StillWorse, synthetic_study
        >>> def results(std, lr, seed):
        ...     return {"test/accuracy": 0.9 if std * lr < 0.05 else 0.1}
        >>> grid = {"init.std": [0.01, 0.1, 1.0], "optimizer.lr": [0.01, 0.1]}
        >>> study = synthetic_study(grid, results)
        >>> StillWorse("No rate rescues a large one.", count=1).check(study, "MLP").verdict
        'FAIL'
    """

    def _table(self, study: Study, facet: str, metric: str) -> pl.DataFrame:
        value = pl.col("value").clip(TINY).log10() if self.log else pl.col("value")
        rows = cells(with_second_key_tuned(study), facet, metric).with_columns(value)
        return complete(rows.pivot(on="seed", index="by", values="value"))


def is_higher_better(study: Study, metric: str, stated: bool | None) -> bool:
    """Whether large values of a metric are good: as a claim states it, or as the schema does."""
    return not study.is_lower_better(metric) if stated is None else stated


def with_second_key_tuned(study: Study) -> Study:
    """The study with its second key tuned, as if there were only one value of it."""
    runs = study.runs.with_columns(pl.col("across").alias("tune"), pl.lit(0.0).alias("across"))
    return replace(study, runs=runs, tune=study.across)


def complete(table: pl.DataFrame) -> pl.DataFrame:
    """A table of one row per value and one column per seed, less the seeds that lack a value."""
    kept = [c for c in table.columns if c == "by" or table[c].null_count() == 0]
    return table.select(kept).sort("by")


def _best(data: np.ndarray, higher_is_better: bool) -> int:
    means = np.mean(data, axis=1)
    return int(np.argmax(means) if higher_is_better else np.argmin(means))


def _diverged(study: Study, facet: str, values: list[float]) -> str:
    runs = study.runs_of(facet).filter(pl.col("by").is_in(values))
    count = int(runs["diverged"].sum())
    return f", {count} of {len(runs)} runs diverged" if count else ""


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
