"""Hanin & Rolnick's two failure modes: a mean length that drifts with depth, and its spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.claim import FAIL, PASS, UNDECIDED
from initstudy.claims.statistics import RESAMPLES, Interval, mean_interval, percentile_interval
from initstudy.store.frames import Study

MANY = 10


def ratios(study: Study, facet: str) -> pl.DataFrame:
    """How much longer the signal is in the last hidden layer than in the first, at initialization.

    A row a run: `by`, `seed`, `depth` (hidden layers), `log` (of the ratio of the mean squares) and
    `beta`, the sum of 1/width over the hidden layers after the first.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    measured = "activation/fc1/rms" in study.history.columns
    if not measured or not {"model.depth", "model.width"} <= set(runs.columns):
        return pl.DataFrame(schema=dict.fromkeys(("by", "depth", "beta", "log"), pl.Float64))
    first = study.history.filter((pl.col("facet") == facet) & (pl.col("step") == 0))
    deepest = int(runs["model.depth"].max())  # type: ignore[arg-type]
    last = pl.coalesce(
        pl.when(pl.col("depth") == d).then(pl.col(f"activation/fc{d}/rms"))
        for d in range(1, deepest + 1)
        if f"activation/fc{d}/rms" in first.columns
    )
    joined = first.join(
        runs.select("run", depth=pl.col("model.depth"), width=pl.col("model.width")), on="run"
    ).filter(pl.col("depth") > 1)
    log = 2 * (last.cast(pl.Float64).log() - pl.col("activation/fc1/rms").cast(pl.Float64).log())
    return joined.select(
        "by", "seed", "depth", log=log, beta=(pl.col("depth") - 1) / pl.col("width")
    ).filter(pl.col("log").is_finite())


@dataclass(frozen=True)
class LengthFactor:
    """At initialization the squared length changes by an expected factor a layer.

    For each run: ln(length of the last hidden layer / of the first), less its mean at finite width,
    -5/2 of the sum of 1/width (Hanin & Nica 2020; Hanin & Rolnick 2018 state the mean length
    itself, which few networks of many carry), over the layers between. Then the mean of each seed.

    Args:
        statement: What is claimed, in words.
        factor: That is expected a layer: fan_in·variance/2 for ReLU.
        tolerance: Of the logarithm of the factor; the whole interval must lie within.
    """

    statement: str
    factor: float
    tolerance: float = 0.05

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = "ln of the factor a layer"
        rows = ratios(study, facet)
        if rows.is_empty() or rows["seed"].n_unique() < 2:
            return UNDECIDED, None, unit, "needs probes and two seeds"
        layer = (pl.col("log") + 2.5 * pl.col("beta")) / (pl.col("depth") - 1)
        seeds = rows.group_by("seed").agg(layer.mean().alias("layer")).sort("seed")
        interval = mean_interval(seeds["layer"].to_list())
        expected = math.log(self.factor)
        holds = max(expected - interval.low, interval.high - expected) <= self.tolerance
        detail = (
            f"squared length times {math.exp(interval.estimate):.3g} a layer; theory says "
            f"{self.factor:g}"
        )
        return (PASS if holds else FAIL), interval, unit, detail


@dataclass(frozen=True)
class LengthSpread:
    """The variance of the logarithm of the squared length is five times the sum of 1/width.

    Over architectures: the slope, through the origin, of that variance over seeds against β, the
    sum of 1/width. Its interval is a percentile bootstrap over the seeds of each architecture.

    Args:
        statement: What is claimed, in words.
        slope: That is expected: 5 for ReLU (Hanin & Nica 2020; Hanin & Rolnick 2018, theorem 5).
        tolerance: The whole interval must lie within this of the slope.
    """

    statement: str
    slope: float = 5.0
    tolerance: float = 1.0

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = "slope of var ln(length) in the sum of 1/width"
        groups = [
            (float(group["beta"][0]), group["log"].to_numpy())
            for _, group in ratios(study, facet)
            .sort("beta", "depth")
            .group_by("by", "depth", maintain_order=True)
            if len(group) >= MANY
        ]
        if len(groups) < 2:
            return UNDECIDED, None, unit, f"needs probes, two architectures, {MANY} seeds of each"
        betas = np.array([beta for beta, _ in groups])
        rng = np.random.default_rng(0)
        draws = [
            values[rng.integers(len(values), size=(RESAMPLES, len(values)))].var(1, ddof=1)
            for _, values in groups
        ]
        found = np.array([[values.var(ddof=1)] for _, values in groups])
        interval = percentile_interval(
            float(_through_origin(betas, found)[0]),
            _through_origin(betas, np.array(draws)),
            sum(len(values) for _, values in groups),
            "networks",
        )
        beyond = max(self.slope - interval.low, interval.high - self.slope)
        holds = beyond <= self.tolerance
        detail = f"over {len(groups)} architectures, sums from {betas[0]:.3g} to {betas[-1]:.3g}"
        return (PASS if holds else FAIL), interval, unit, detail


def _through_origin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x @ y / (x @ x)
