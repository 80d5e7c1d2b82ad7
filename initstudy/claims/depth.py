"""Claims about what happens from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.claim import FAIL, PASS, UNDECIDED
from initstudy.claims.statistics import Interval, mean_interval, slope
from initstudy.store.frames import Study

Found = tuple[str, Interval | None, str, str]


@dataclass(frozen=True)
class Flatter:
    """At initialization a measure changes less from layer to layer under one choice than another.

    For each seed: the slope of its logarithm against the layer's number, over hidden layers; what
    counts is how far it is from zero.

    Args:
        statement: What is claimed, in words.
        flatter: The choice whose measure is to change less.
        than: The other choice.
        measure: A column of the history, with {} for the layer's name.
    """

    statement: str
    flatter: str
    than: str
    measure: str = "activation/{}/std"

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        unit = f"difference of |slope of ln {self.measure.format('layer')}|"
        slopes = {c: self._slopes(study, facet, c) for c in (self.flatter, self.than)}
        seeds = sorted(slopes[self.flatter].keys() & slopes[self.than].keys())
        if len(seeds) < 2:
            return UNDECIDED, None, unit, "needs probes, two hidden layers, two seeds of both"
        steeper = [abs(slopes[self.than][s]) - abs(slopes[self.flatter][s]) for s in seeds]
        interval = mean_interval(steeper)
        means = {c: float(np.mean([values[s] for s in seeds])) for c, values in slopes.items()}
        detail = ", ".join(f"{c} {np.expm1(mean):+.1%} a layer" for c, mean in means.items())
        return (PASS if interval.above_zero else FAIL), interval, unit, detail

    def _slopes(self, study: Study, facet: str, choice: str) -> dict[int, float]:
        hidden = study.layers(facet)[:-1]
        columns = [self.measure.format(layer) for layer in hidden]
        if len(hidden) < 2 or not set(columns) <= set(study.history.columns):
            return {}
        rows = _chosen(study.history, facet, choice).filter(pl.col("step") == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(rows.select(columns).to_numpy().astype(float))
        found = slope(np.arange(len(hidden)), logs)
        pairs = zip(rows["seed"].to_list(), found, strict=True)
        return {seed: float(slope) for seed, slope in pairs if np.isfinite(slope)}


@dataclass(frozen=True)
class TopSaturatesFirst:
    """During training the last hidden layer is saturated more than those below it.

    For each seed: the largest saturated fraction of the last hidden layer over the measurements,
    less the largest of any layer below.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied variable.
    """

    statement: str
    choice: str

    def check(self, study: Study, facet: str) -> Found:
        """See `Claim`."""
        unit = "difference of saturated fractions"
        *below, top = [f"activation/{name}/saturated" for name in study.layers(facet)[:-1]] or [""]
        rows = _chosen(study.history, facet, self.choice)
        if not below or not {top, *below} <= set(rows.columns):
            return UNDECIDED, None, unit, "needs probes and two hidden layers with limits"
        largest = rows.group_by("seed").agg(pl.col(top, *below).cast(pl.Float64).max())
        if len(largest) < 2:
            return UNDECIDED, None, unit, f"needs two seeds of {self.choice}"
        others = largest.select(pl.max_horizontal(below)).to_series()
        interval = mean_interval((largest[top] - others).to_list())
        detail = (
            f"largest saturated fraction: last hidden layer {_mean(largest[top]):.1%}, "
            f"below it {_mean(others):.1%}"
        )
        return (PASS if interval.above_zero else FAIL), interval, unit, detail


def _chosen(history: pl.DataFrame, facet: str, choice: str) -> pl.DataFrame:
    return history.filter((pl.col("facet") == facet) & (pl.col("by").cast(pl.String) == choice))


def _mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())
