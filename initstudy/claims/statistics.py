"""Intervals for means over seeds, each with the method that gave it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
RESAMPLES = 9_999
# How many numbers resamples may hold together, so that thousands of seeds do not fill the memory.
NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% confidence interval.

    Attributes:
        estimate: The estimate, such as a mean.
        low, high: The ends of the interval; NaN if there is only one value.
        n: How many values the estimate is made of.
        method: How the interval was calculated, in words.

    Example:
        >>> from initstudy.claims.statistics import mean_interval
        >>> interval = mean_interval([0.1, 0.2, 0.3])
        >>> round(interval.low, 3), round(interval.high, 3), interval.method
        (-0.048, 0.448, "Student's t, n=3 seeds")
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of independent values and its 95% interval.

    Student's t up to nine values; from ten on the bias-corrected and accelerated bootstrap (Efron
    1987, as in scipy.stats.bootstrap) with a fixed random state. Values that are all equal give an
    interval of no width.

    Raises:
        ValueError: There is no value, or one is not finite.
    """
    data = np.asarray(values, dtype=float)
    n = len(data)
    if n == 0 or not np.isfinite(data).all():
        raise ValueError(f"values={list(values)}: needs at least one, and all of them finite")
    mean = float(data.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n, "one seed, no interval")
    # Rounding alone must not make equal values differ.
    if np.ptp(data) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean, n, f"all {n} seeds equal")
    if n < BOOTSTRAP_FROM:
        low, high = _student(data)
        return Interval(mean, low, high, n, f"Student's t, n={n} seeds")
    low, high = _bootstrap(tuple(data.tolist()))
    return Interval(mean, low, high, n, f"BCa bootstrap, n={n} seeds")


def percentile_interval(estimate: float, draws: np.ndarray, n: int, what: str) -> Interval:
    """An estimate and the interval between the percentiles of its bootstrap.

    Args:
        estimate: The estimate from the data themselves.
        draws: The estimates from the resamples; NaN is left out.
        n: How many things were resampled.
        what: Those things, in the plural.
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    method = f"bootstrap of {n} {what}, percentiles"
    return Interval(estimate, float(low), float(high), n, method)


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least-squares slope of y `[..., n]` against x `[n]`; one per row of y."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)


def _student(data: np.ndarray) -> tuple[float, float]:
    from scipy.special import stdtrit

    n = len(data)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * data.std(ddof=1) / math.sqrt(n)
    return float(data.mean() - half), float(data.mean() + half)


@lru_cache(maxsize=4096)
def _bootstrap(data: tuple[float, ...]) -> tuple[float, float]:
    """Cached, because claims, charts and tables ask for the same values."""
    from scipy.stats import bootstrap

    interval = bootstrap(
        (np.array(data),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, NUMBERS_AT_ONCE // len(data)),
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
