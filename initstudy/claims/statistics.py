"""Intervals and exact tests over seeds, each with the method that gave it.

Every function takes the seeds along the last axis and any number of studies along the axes before
it, so that `experiments/calibration.py` measures the error rates of the very code that decides a
claim. A seed that an arm does not have is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

import numpy as np

from initstudy.claims.power import Plan, Scatter, Share

# The two-sided level of a verdict: PASS and REFUTED are each wrong in at most half of it.
LEVEL = 0.05
# Below so many seeds Student's t rests on the normal distribution alone: two outcomes of "stuck or
# trained" that happen to agree would look like certainty in one study of eight.
FEWEST = 3
# Up to so many ways to share runs out between two arms are all tried; beyond, as many are drawn.
MOST_PERMUTATIONS = 12_870
RESAMPLES = 9_999

Ends = tuple[float, float]
Bounds = Callable[[float], Ends]
Arrays = tuple[np.ndarray, np.ndarray]
OPEN: Ends = (-math.inf, math.inf)


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% confidence interval.

    Attributes:
        estimate: The estimate, such as a mean.
        low, high: The ends of the interval, which are infinite where the seeds tell nothing.
        n: How many seeds decide.
        method: How the interval was calculated, in words.
        at: The ends of the interval at another two-sided level, such as 0.01.
        plan: What more seeds would tell.

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
    at: Bounds = field(repr=False, compare=False)
    plan: Plan = field(repr=False, compare=False)

    @classmethod
    def of(cls, estimate: float, n: int, method: str, at: Bounds, plan: Plan) -> Interval:
        """The interval at `LEVEL`."""
        low, high = at(LEVEL)
        return cls(estimate, low, high, n, method, at, plan)

    def negated(self) -> Interval:
        """The interval of the number with the other sign."""

        def at(level: float) -> Ends:
            low, high = self.at(level)
            return -high, -low

        return Interval.of(-self.estimate, self.n, self.method, at, self.plan)

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0


def mean_interval(values: Sequence[float] | np.ndarray, limits: Ends = OPEN) -> Interval:
    """The mean of independent values and its 95% interval, Student's t at any number of seeds.

    Values that are all equal prove no certainty: see `student`. Infinite values, by which the worst
    rank stands for a run that diverged, give the median with an exact interval instead.

    Args:
        values: The values.
        limits: Between which the mean has to lie, as that of a difference of fractions between -1
            and 1.

    Raises:
        ValueError: There is no value, or one is NaN.
    """
    data = np.asarray(values, dtype=float)
    n = len(data)
    if n == 0 or np.isnan(data).any():
        raise ValueError(f"values={list(values)}: needs at least one, and all of them finite")
    if np.isinf(data).any():
        return median_interval(data)

    def at(level: float) -> Ends:
        low, high = student(data, level)
        return max(float(low), limits[0]), min(float(high), limits[1])

    scatter = float(data.std(ddof=1)) if n > 1 else math.nan
    if n < FEWEST:
        method = f"none: {n} seed{'s' if n > 1 else ''}, and it takes {FEWEST}"
    elif _equal(data):
        method = f"all {n} seeds equal: exact sign test"
    else:
        method = f"Student's t, n={n} seeds"
    return Interval.of(float(data.mean()), n, method, at, Scatter(scatter, n))


def student(data: np.ndarray, level: float) -> Arrays:
    """Student's t interval of the mean of `data[..., seeds]`.

    Where all values are equal, no scatter is known. They are then taken for signs: n values on one
    side of a border have a probability of 2^(1-n) if either side were as likely, so the interval
    has no width if that is at most the level, as from six seeds on at 5%, and else no ends.

    A small level of few seeds would rest on the tails of the normal distribution. Two alike arms
    whose runs are stuck or trained differ in n of n seeds, all to one side, in up to 2·4^-n of
    studies; at a level below that (3.1% of three seeds, 0.2% of five) the interval has no ends.

    Args:
        data: The values; NaN is left out, and where one is infinite the ends are those of the
            median.
        level: The two-sided level.

    Returns:
        The lower and the upper ends.
    """
    from scipy.special import stdtrit

    present = np.isfinite(data)
    n = present.sum(-1)
    filled = np.where(present, data, 0.0)
    mean = filled.sum(-1) / np.maximum(n, 1)
    deviations = np.where(present, data - mean[..., None], 0.0)
    variance = np.square(deviations).sum(-1) / np.maximum(n - 1, 1)
    # Rounding alone must not make equal values differ.
    equal = np.abs(deviations).max(-1) <= 1e-12 * np.maximum(1.0, np.abs(mean))
    half = stdtrit(np.maximum(n - 1, 1), 1 - level / 2) * np.sqrt(variance / np.maximum(n, 1))
    signs = np.where(2.0 ** (1 - n) <= level, 0.0, np.inf)
    half = np.where(equal, signs, half)
    half = np.where((n < FEWEST) | (level < 2 * 4.0**-n), np.inf, half)
    ranked = np.isinf(data).any(-1)
    if not ranked.any():
        return mean - half, mean + half
    # A run of the worst rank has no distance from others: the median takes the place of the mean.
    low, _ = median_ends(np.where(np.isnan(data), -np.inf, data), level)
    _, high = median_ends(np.where(np.isnan(data), np.inf, data), level)
    return np.where(ranked, low, mean - half), np.where(ranked, high, mean + half)


def fraction_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean of values between 0 and 1, such as accuracies, with ends between 0 and 1.

    Student's t of the logits, at the mean: the interval of `student` in units of the slope of the
    logit, turned back. Equal values have the ends that Clopper and Pearson's exact interval has for
    a share: n runs of 100% leave a mean of at least (level/2)^(1/n).

    Example:
        >>> found = fraction_interval([0.97, 0.98, 0.99])
        >>> 0.9 < found.low < 0.98 < found.high < 1.0
        True
        >>> round(fraction_interval([1.0, 1.0, 1.0]).low, 2)
        0.29
    """
    data = np.asarray(values, dtype=float)
    inner = mean_interval(data)
    mean, n = inner.estimate, len(data)
    if not np.isfinite(data).all() or mean < 0 or mean > 1:
        return inner

    def at(level: float) -> Ends:
        if n < FEWEST:
            return OPEN
        rest = (level / 2) ** (1 / n)
        if _equal(data):
            return mean * rest, 1 - (1 - mean) * rest
        slope = 1 / (mean * (1 - mean))
        logit = math.log(mean / (1 - mean))
        half = (inner.at(level)[1] - mean) * slope
        return _logistic(logit - half), _logistic(logit + half)

    method = inner.method
    if n >= FEWEST:
        method = (
            f"{n} equal seeds, exact" if _equal(data) else f"Student's t of logits, n={n} seeds"
        )
    return Interval.of(mean, n, method, at, inner.plan)


def median_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """The median and its exact interval between order statistics, which needs no finite values.

    Below six seeds it has no ends at 5%: all of them lie on one side of the median in more than
    one study of twenty.
    """
    data = np.sort(np.asarray(values, dtype=float))
    n = len(data)

    def at(level: float) -> Ends:
        low, high = median_ends(data, level)
        return float(low), float(high)

    finite = data[np.isfinite(data)]
    scatter = 1.25 * float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    middle = (data[(n - 1) // 2], data[n // 2])
    estimate = float(middle[0]) if middle[0] == middle[1] else float(np.mean(middle))
    method = f"order statistics of n={n} seeds, exact"
    return Interval.of(estimate, n, method, at, Scatter(scatter, n, fewest=6))


def median_ends(data: np.ndarray, level: float) -> Arrays:
    """The exact ends of the interval of the median of `data[..., seeds]`, its order statistics."""
    from scipy.special import bdtr

    ordered = np.sort(data, -1)
    n = data.shape[-1]
    outside = [k for k in range(1, n // 2 + 1) if 2 * bdtr(k - 1, n, 0.5) <= level]
    if not outside:
        return np.full(data.shape[:-1], -np.inf), np.full(data.shape[:-1], np.inf)
    return ordered[..., max(outside) - 1], ordered[..., n - max(outside)]


def clopper_pearson(count: np.ndarray, n: np.ndarray | int, level: float) -> Arrays:
    """The exact interval of a share (Clopper & Pearson 1934).

    Args:
        count: How many of `n` have the property.
        n: How many there are.
        level: The two-sided level.
    """
    from scipy.special import betaincinv

    count, n = np.asarray(count, dtype=float), np.asarray(n, dtype=float)
    inner = np.clip(count, 0.5, None), np.clip(n - count, 0.5, None)
    low = betaincinv(inner[0], n - count + 1, level / 2)
    high = betaincinv(count + 1, inner[1], 1 - level / 2)
    return np.where(count > 0, low, 0.0), np.where(count < n, high, 1.0)


def share_interval(count: int, n: int, limit: float, what: str = "seeds") -> Interval:
    """A share with its exact interval.

    Args:
        count: How many of `n` have a property.
        n: How many there are.
        limit: The share with which a claim compares it, for the plan.
        what: What is counted, in the plural.

    Example:
        >>> found = share_interval(0, 3, limit=0.5)
        >>> found.estimate, round(found.high, 2), found.method
        (0.0, 0.71, 'Clopper–Pearson, 0 of 3 seeds')
    """

    def at(level: float) -> Ends:
        low, high = clopper_pearson(np.array(count), n, level)
        return float(low), float(high)

    method = f"Clopper–Pearson, {count} of {n} {what}"
    return Interval.of(count / n, n, method, at, Share(limit, n))


def mcnemar(first: np.ndarray, second: np.ndarray, level: float) -> Arrays:
    """The difference of two paired shares, `first[..., seeds]` less `second[..., seeds]`.

    Its sign is decided by McNemar's exact test: of the pairs that differ, half would favour either
    side. The ends are Clopper and Pearson's of that half, times the share of pairs that differ.

    Args:
        first: Whether the runs of one arm have the property.
        second: Whether those of the other have it.
        level: The two-sided level.
    """
    ahead = (first & ~second).sum(-1)
    differing = (first ^ second).sum(-1)
    low, high = clopper_pearson(ahead, np.maximum(differing, 1), level)
    share = differing / first.shape[-1]
    nothing = differing == 0
    return (
        np.where(nothing, -1.0, (2 * low - 1) * share),
        np.where(nothing, 1.0, (2 * high - 1) * share),
    )


def paired_shares(first: Sequence[bool], second: Sequence[bool]) -> Interval:
    """`mcnemar` for the seeds of two arms, as an interval."""
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    differing = int((a ^ b).sum())

    def at(level: float) -> Ends:
        low, high = mcnemar(a, b, level)
        return float(low), float(high)

    difference = float(a.mean() - b.mean())
    n = len(a)
    scatter = math.sqrt(max(differing / n - difference**2, 1 / (4 * n)))
    method = f"McNemar, exact, {differing} of {n} pairs differ"
    return Interval.of(difference, n, method, at, Scatter(scatter, n, fewest=6))


def best_difference(
    first: np.ndarray, second: np.ndarray, chooses: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The best mean of some arms less that of others; nothing is selected by what decides.

    The lower end: the arm of `first` that is best by the seeds that choose, less every arm of
    `second`, by Student's t of the seeds that decide, the smallest. Whichever arm was chosen, its
    mean is at most that of the best of `first`, and one of `second` is the best; so the end errs no
    more than one t interval does. The upper end is the same with the parts exchanged.

    Args:
        first: `[..., arms, seeds]`, of which large values are good.
        second: `[..., other arms, seeds]`.
        chooses: For each seed whether it chooses; the others decide.
        level: The two-sided level.

    Returns:
        The lower ends, the upper ends, and which arm of either part was chosen.
    """
    low, high, ours, theirs = best_few_difference(first[..., None, :, :], second, chooses, level, 1)
    return low, high, ours[..., 0, 1], theirs


def best_few_difference(
    first: np.ndarray, second: np.ndarray, chooses: np.ndarray, level: float, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`best_difference` of the mean of the best `count` values, each at the best of its arms.

    Where an end of a grid is the mean of several runs of a seed, so is what it is compared with:
    two alike parts then differ as often to either side. The upper end takes the `count` largest of
    the values' own upper ends, at a level divided by their number.

    Args:
        first: `[..., values, arms, seeds]`, of which large values are good.
        second: `[..., other arms, seeds]`.
        chooses: For each seed whether it chooses; the others decide.
        level: The two-sided level.
        count: How many of the values are compared.

    Returns:
        The lower ends; the upper ends; the chosen values and their arms `[..., count, 2]`; and the
        chosen one of the other arms.
    """
    decides = ~np.asarray(chooses)
    arms = _chosen(first, chooses)
    at_best = np.take_along_axis(first, arms[..., None, None], -2)[..., 0, :]
    merits = _merits(at_best, chooses)
    values = np.argsort(-merits, -1, kind="stable")[..., :count]
    ours = np.take_along_axis(at_best, values[..., None], -2)[..., decides].mean(-2, keepdims=True)
    other = _chosen(second, chooses)
    theirs = np.take_along_axis(second, other[..., None, None], -2)[..., decides]
    low, _ = student(less(ours, second[..., decides]), level)
    _, highs = student(less(first[..., decides], theirs[..., None, :, :]), level / count)
    largest = np.sort(highs.max(-1), -1)[..., -count:]
    chosen = np.stack([values, np.take_along_axis(arms, values, -1)], -1)
    return low.min(-1), largest.mean(-1), chosen, other


def less(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The difference of two arrays; two runs of the worst rank, both infinite, are no more apart.

    Example:
        >>> less(np.array([-np.inf, 1.0]), np.array([-np.inf, -np.inf])).tolist()
        [0.0, inf]
    """
    with np.errstate(invalid="ignore"):
        difference = first - second
    return np.where(np.isinf(first) & (first == second), 0.0, difference)


def _chosen(values: np.ndarray, chooses: np.ndarray) -> np.ndarray:
    """Which of the arms has the best mean over the seeds that choose and that all arms have."""
    return _merits(values, chooses).argmax(-1)


def _merits(values: np.ndarray, chooses: np.ndarray) -> np.ndarray:
    some = values[..., chooses]
    common = ~np.isnan(some).any(tuple(range(some.ndim - 1)))
    return np.where(common, some, 0.0).sum(-1)


def log_rank_scores(times: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """The log-rank scores of pooled times: 1 for an event, less the hazard up to then.

    Their sum over one arm is the log-rank statistic, observed less expected events, of that arm
    (Peto & Peto 1972); it is large for an arm whose events are early.

    Args:
        times: `[..., runs]`, at which each run learned, or was last seen.
        learned: Whether it learned then.
    """
    # Events before the runs that were last seen at the same time.
    order = np.lexsort((~learned, times), axis=-1)
    t, event = (np.take_along_axis(a, order, -1) for a in (times, learned))
    n = t.shape[-1]
    index = np.broadcast_to(np.arange(n), t.shape)
    new = np.ones_like(event)
    new[..., 1:] = t[..., 1:] != t[..., :-1]
    at_risk = n - np.maximum.accumulate(np.where(new, index, 0), -1)
    hazard = np.cumsum(event / at_risk, -1)
    ends = np.ones_like(event)
    ends[..., :-1] = new[..., 1:]
    last = np.where(ends, index, n)[..., ::-1]
    last = np.minimum.accumulate(last, -1)[..., ::-1]
    scores = event - np.take_along_axis(hazard, last, -1)
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, -1)
    return found


@lru_cache(maxsize=64)
def _arms(first: int, runs: int) -> np.ndarray:
    """Ways to give `first` of some runs to the first arm, one per row."""
    if math.comb(runs, first) <= MOST_PERMUTATIONS:
        chosen = np.array(list(combinations(range(runs), first)))
        arms = np.zeros((len(chosen), runs), dtype=np.float32)
        np.put_along_axis(arms, chosen, 1.0, 1)
        return arms
    rng = np.random.default_rng(0)
    ranks = rng.random((RESAMPLES, runs)).argsort(1)
    drawn = (ranks < first).astype(np.float32)
    # The arms as they are belong to the distribution.
    return np.concatenate([(np.arange(runs) < first).astype(np.float32)[None], drawn])


def log_rank(
    first: np.ndarray, second: np.ndarray, learned: np.ndarray, also: np.ndarray
) -> Arrays:
    """The one-sided p-values of the exact log-rank test, by permutation.

    Args:
        first: `[..., runs]`, the times of one arm.
        second: `[..., runs]`, those of the other.
        learned: Whether the runs of the first arm learned then; otherwise they were last seen.
        also: The same of the second.

    Returns:
        How likely the first arm is so early by chance, and so late.
    """
    times = np.concatenate([first, second], -1)
    scores = log_rank_scores(times, np.concatenate([learned, also], -1)).astype(np.float32)
    arms = _arms(first.shape[-1], times.shape[-1])
    permuted = scores @ arms.T
    seen = scores[..., : first.shape[-1]].sum(-1, keepdims=True)
    near = 1e-5
    return (permuted >= seen - near).mean(-1), (permuted <= seen + near).mean(-1)


def times_interval(
    first: Sequence[float], second: Sequence[float], horizon: float, second_horizon: float
) -> Interval:
    """How many e-folds sooner the first arm learns than the second, by inverting the log-rank test.

    The ends are the factors by which the second arm's times can be shortened until the test no
    longer tells the arms apart; one is infinite if no factor does, as where an arm never learned.

    Args:
        first: The times of one arm; one that is not below the horizon was last seen there.
        second: The times of the other arm.
        horizon: How long the runs of the first arm trained.
        second_horizon: The same of the second.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    learned, also = a < horizon, b < second_horizon

    def one_sided(shift: float) -> Ends:
        early, late = log_rank(a, b * math.exp(-shift), learned, also)
        return float(early), float(late)

    def at(level: float) -> Ends:
        low = _border(lambda shift: one_sided(shift)[0] <= level / 2)
        high = -_border(lambda shift: one_sided(-shift)[1] <= level / 2)
        return low, high

    logs = np.log(np.maximum(b, 1e-12)).mean() - np.log(np.maximum(a, 1e-12)).mean()
    pooled = [np.log(np.maximum(x, 1e-12)).var(ddof=1) if len(x) > 1 else math.nan for x in (a, b)]
    lost = int((~learned).sum() + (~also).sum())
    censored = f", {lost} censored" if lost else ""
    method = f"log-rank, exact permutation, n={len(a)} and {len(b)} seeds{censored}"
    plan = Scatter(math.sqrt(sum(pooled)), min(len(a), len(b)), fewest=4)
    return Interval.of(float(logs), min(len(a), len(b)), method, at, plan)


def _border(holds: Callable[[float], bool], widest: float = 16.0, steps: int = 14) -> float:
    """The largest number for which something holds that holds of small ones; -∞ if of none."""
    if not holds(-widest):
        return -math.inf
    if holds(widest):
        return widest
    low, high = -widest, widest
    if holds(0.0):
        low = 0.0
    else:
        high = 0.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least-squares slope of y `[..., n]` against x `[n]`; one per row of y."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)


def smallest(intervals: Sequence[Interval]) -> Interval:
    """The smallest of several numbers: a claim that each of them is large is one about it.

    Its lower end is the smallest of theirs (an intersection–union test needs no correction); its
    upper end is the smallest of theirs at a level divided by their number.
    """
    if len(intervals) == 1:
        return intervals[0]
    count = len(intervals)

    def at(level: float) -> Ends:
        lows = [interval.at(level)[0] for interval in intervals]
        highs = [interval.at(level / count)[1] for interval in intervals]
        return min(lows), min(highs)

    weakest = min(intervals, key=lambda interval: interval.estimate)
    method = f"{weakest.method}; the smallest of {count}"
    return Interval.of(weakest.estimate, weakest.n, method, at, weakest.plan)


def _equal(data: np.ndarray) -> bool:
    return bool(np.ptp(data) <= 1e-12 * max(1.0, abs(float(data.mean()))))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -700.0), 700.0)))
