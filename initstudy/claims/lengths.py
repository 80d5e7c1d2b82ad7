"""Hanin & Rolnick's two failure modes: a mean length that drifts with depth, and its spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.finding import Finding, Region, shortfall
from initstudy.claims.power import Scatter
from initstudy.claims.second_key import as_array, common_seeds
from initstudy.claims.statistics import FEWEST, RESAMPLES, Ends, Interval, mean_interval
from initstudy.columns import ACTIVATION_RMS
from initstudy.store.frames import Study

DEPTH, WIDTH = "model.depth", "model.width"
# How many seeds tell a variance by the bootstrap, which covers too little with fewer.
MANY = 30


def ratios(study: Study, facet: str) -> pl.DataFrame:
    """How much longer the signal is in the last hidden layer than in the first, at initialization.

    Args:
        study: A study of MLPs, whose hidden layers are `fc1`, `fc2` and so on.
        facet: One of its facets.

    Returns:
        One row per run: `by`, `seed`, `depth` (hidden layers), `log` (the logarithm of the ratio of
        the mean squares) and `beta`, the sum of 1/width over the hidden layers after the first;
        empty if nothing was probed.
    """
    runs = study.runs_of(facet)
    columns = [c for c in study.history.columns if study.schema.find(c) == ACTIVATION_RMS]
    first_layer = ACTIVATION_RMS.of("fc1")
    if first_layer not in columns or not {DEPTH, WIDTH} <= set(runs.columns):
        return pl.DataFrame(
            schema=dict.fromkeys(("by", "seed", "depth", "beta", "log"), pl.Float64)
        )
    first = study.history_of(facet, "run", "by", "seed", "step", *columns).filter(
        pl.col("step") == 0
    )
    deepest = int(runs[DEPTH].max())  # type: ignore[arg-type]
    last = pl.coalesce(
        pl.when(pl.col("depth") == d).then(pl.col(ACTIVATION_RMS.of(f"fc{d}")))
        for d in range(1, deepest + 1)
        if ACTIVATION_RMS.of(f"fc{d}") in columns
    )
    joined = first.join(
        runs.select("run", depth=pl.col(DEPTH), width=pl.col(WIDTH)), on="run"
    ).filter(pl.col("depth") > 1)
    log = 2 * (last.cast(pl.Float64).log() - pl.col(first_layer).cast(pl.Float64).log())
    return joined.select(
        "by", "seed", "depth", log=log, beta=(pl.col("depth") - 1) / pl.col("width")
    ).filter(pl.col("log").is_finite())


@dataclass(frozen=True)
class LengthFactor:
    """At initialization the squared length changes by an expected factor per layer.

    For each run: ln(length of the last hidden layer / of the first), minus its mean at finite
    width, -5/2 of the sum of 1/width (Hanin & Nica 2020; Hanin & Rolnick 2018 state the mean length
    itself, which few networks of many carry), over the layers between. Then the mean of each seed.

    Args:
        statement: What is claimed, in words.
        factor: The factor per layer that is expected: fan_in·variance/2 for ReLU.
        tolerance: How far the logarithm of the factor may lie from that of the expected one; the
            whole interval must lie within.

    Example:
        >>> from initstudy.claims import LengthFactor, synthetic_study
        >>> def results(depth, width, seed):
        ...     return {f"activation/fc{n}/rms": 0.5 ** (n / 2) for n in range(1, depth + 1)}
        >>> study = synthetic_study({"model.depth": [4, 8], "model.width": [10**6]}, results)
        >>> LengthFactor("Half of the length per layer.", factor=0.5).check(study, "MLP").detail
        'the squared length changes by a factor of 0.5 per layer; theory says 0.5'
    """

    statement: str
    factor: float
    tolerance: float = 0.05

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "ln of the factor per layer"
        rows = ratios(study, facet)
        if lacking := shortfall((FEWEST, rows["seed"].n_unique(), "probed seeds")):
            return Finding.undecided(unit, lacking)
        layer = (pl.col("log") + 2.5 * pl.col("beta")) / (pl.col("depth") - 1)
        seeds = rows.group_by("seed").agg(layer.mean().alias("layer")).sort("seed")
        interval = mean_interval(seeds["layer"].to_list())
        expected = math.log(self.factor)
        region = Region(expected - self.tolerance, expected + self.tolerance)
        detail = (
            f"the squared length changes by a factor of {math.exp(interval.estimate):.3g} per "
            f"layer; theory says {self.factor:g}"
        )
        return Finding.judged(interval, region, unit, detail)


@dataclass(frozen=True)
class LengthSpread:
    """The variance of the logarithm of the squared length is five times the sum of 1/width.

    Over architectures: the slope, through the origin, of that variance over seeds against β, the
    sum of 1/width. Its interval is a percentile bootstrap over seeds: networks of one seed share
    their first layers, so that they are drawn together.

    Args:
        statement: What is claimed, in words.
        slope: The slope that is expected: 5 for ReLU (Hanin & Nica 2020; Hanin & Rolnick 2018,
            theorem 5).
        tolerance: How far from the slope the whole interval may lie.

    Example:
        >>> from initstudy.claims import LengthSpread, synthetic_study
        >>> import numpy as np
        >>> def results(depth, width, seed):
        ...     normal = np.random.default_rng([seed, depth]).standard_normal()
        ...     log = normal * (5 * (depth - 1) / width) ** 0.5
        ...     last = float(np.exp(log / 2))
        ...     return {"activation/fc1/rms": 1.0, f"activation/fc{depth}/rms": last}
        >>> grid = {"model.depth": [3, 9, 17], "model.width": [100]}
        >>> study = synthetic_study(grid, results, seeds=200)
        >>> LengthSpread("Five times the sum of 1/width.").check(study, "MLP").verdict
        'PASS'
    """

    statement: str
    slope: float = 5.0
    tolerance: float = 1.0

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "slope of var ln(length) in the sum of 1/width"
        groups = list(
            ratios(study, facet).sort("beta", "depth").group_by("by", "depth", maintain_order=True)
        )
        by_seed = [dict(group.select("seed", "log").iter_rows()) for _, group in groups]
        seeds = common_seeds(dict(enumerate(by_seed)))
        lacking = shortfall(
            (2, len(groups), "architectures"), (MANY, len(seeds), "probed seeds of each")
        )
        if lacking:
            return Finding.undecided(unit, lacking, MANY)
        betas = np.array([float(group["beta"][0]) for _, group in groups])
        interval = _spread(betas, as_array(by_seed, seeds))
        detail = (
            f"over {len(groups)} architectures, whose sums of 1/width run from {betas[0]:.3g} to "
            f"{betas[-1]:.3g}"
        )
        region = Region(self.slope - self.tolerance, self.slope + self.tolerance)
        return Finding.judged(interval, region, unit, detail)


def _spread(betas: np.ndarray, logs: np.ndarray) -> Interval:
    """The slope of the variance over seeds of `logs[architectures, seeds]` against the betas."""
    seeds = logs.shape[1]
    rng = np.random.default_rng(0)
    # How often each seed is drawn; the variance follows from three sums.
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES).astype(float)
    centred = logs - logs.mean(1, keepdims=True)
    first, second = drawn @ centred.T / seeds, drawn @ np.square(centred).T / seeds
    variances = (second - np.square(first)).T * seeds / (seeds - 1)
    draws = np.sort(_through_origin(betas, variances))
    estimate = float(_through_origin(betas, logs.var(1, ddof=1)[:, None])[0])

    def at(level: float) -> Ends:
        low, high = np.quantile(draws, [level / 2, 1 - level / 2])
        return float(low), float(high)

    plan = Scatter(float(draws.std() * math.sqrt(seeds)), seeds, fewest=MANY)
    method = f"bootstrap of {seeds} seeds, percentiles"
    return Interval.of(estimate, seeds, method, at, plan)


def _through_origin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x @ y / (x @ x)
