"""Intervals for means over seeds, with the method beside every one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
RESAMPLES = 9_999
# Of all resamples together, so that thousands of seeds do not fill the memory.
NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Interval:
    """A mean and where it lies with a confidence of 95%.

    Attributes:
        estimate: The mean.
        low, high: The interval's ends; NaN where one value alone gives none.
        n: How many values.
        method: How the interval was found, in words.
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
    """An estimate and the 95% between the percentiles of its bootstrap; draws of NaN do not count.

    Args:
        estimate: From the data themselves.
        draws: From each resample.
        n: How many things were resampled.
        what: Those things, in the plural.
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    method = f"bootstrap of {n} {what}, percentiles"
    return Interval(estimate, float(low), float(high), n, method)


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least-squares slope of y against x; of each row, where y has several."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)


def _student(data: np.ndarray) -> tuple[float, float]:
    from scipy.special import stdtrit

    n = len(data)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * data.std(ddof=1) / math.sqrt(n)
    return float(data.mean() - half), float(data.mean() + half)


@lru_cache(maxsize=4096)
def _bootstrap(data: tuple[float, ...]) -> tuple[float, float]:
    """Claims, charts and tables ask for the same values."""
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.array(data),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, NUMBERS_AT_ONCE // len(data)),
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
