"""Exact intervals and tests against scipy's, against plain loops, and against published numbers."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from initstudy.claims.finding import ABOVE_ZERO, PASS, REFUTED, UNDECIDED, Finding, Region
from initstudy.claims.many import adjusted, holm
from initstudy.claims.power import Scatter, Share, detectable
from initstudy.claims.ranking import holm_pairs
from initstudy.claims.statistics import (
    best_few_difference,
    clopper_pearson,
    fraction_interval,
    log_rank,
    mean_interval,
    median_interval,
    paired_shares,
    student,
    times_interval,
)


@pytest.mark.parametrize("level", [0.05, 0.003])
@pytest.mark.parametrize(("count", "n"), [(0, 3), (3, 3), (2, 63), (5, 8), (19, 20)])
def test_the_interval_of_a_share_is_scipys(count, n, level):
    low, high = clopper_pearson(np.array(count), n, level)
    expected = stats.binomtest(count, n).proportion_ci(1 - level, method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("ahead", "behind"), [(6, 0), (5, 0), (9, 1), (3, 3), (1, 11)])
def test_paired_shares_differ_where_mcnemars_exact_test_says_so(ahead, behind):
    """Of the pairs that differ, as many would favour either side: a binomial test of one half."""
    first = [True] * ahead + [False] * behind + [True] * 4
    second = [False] * ahead + [True] * behind + [True] * 4
    interval = paired_shares(first, second)
    p = stats.binomtest(ahead, ahead + behind).pvalue
    assert (interval.above_zero or interval.below_zero) == (p <= 0.05)
    assert interval.low <= interval.estimate <= interval.high


@pytest.mark.parametrize("n", [5, 6, 12, 20, 33])
def test_the_interval_of_a_median_is_that_of_scipys_quantile_test(n):
    data = np.random.default_rng(n).normal(size=n)
    found = median_interval(data)
    expected = stats.quantile_test(data, p=0.5).confidence_interval(0.95)
    if n < 6:
        assert (found.low, found.high) == (-math.inf, math.inf)
    else:
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def observed_less_expected(times, learned, first):
    """The log-rank statistic of the first arm, event by event."""
    total = 0.0
    for time in sorted({t for t, event in zip(times, learned, strict=True) if event}):
        at_risk = [i for i, t in enumerate(times) if t >= time]
        events = [i for i in at_risk if times[i] == time and learned[i]]
        total += sum(i in first for i in events)
        total -= len(events) * sum(i in first for i in at_risk) / len(at_risk)
    return total


def test_the_log_rank_test_is_that_of_a_plain_loop_over_all_permutations():
    a, b, horizon = [20, 30, 25, 30], [100, 30, 300, 300], 300
    times = a + b
    learned = [time < horizon for time in times]
    seen = observed_less_expected(times, learned, range(4))
    permuted = [observed_less_expected(times, learned, arm) for arm in combinations(range(8), 4)]
    early = np.mean([value >= seen - 1e-9 for value in permuted])
    late = np.mean([value <= seen + 1e-9 for value in permuted])
    arrays = (np.array(a, float), np.array(b, float), np.array(learned[:4]), np.array(learned[4:]))
    assert [float(p) for p in log_rank(*arrays)] == pytest.approx([early, late])


def test_the_factor_between_times_is_found_and_has_no_end_where_an_arm_never_learned():
    rng = np.random.default_rng(0)
    first, second = np.exp(rng.normal(2, 0.1, 8)), np.exp(rng.normal(3, 0.1, 8))
    found = times_interval(first, second, math.inf, math.inf)
    expected = stats.ttest_ind(np.log(second), np.log(first)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)
    never = times_interval(first, [500.0] * 8, 500.0, 500.0)
    assert never.above_zero
    assert never.high > 10
    both = times_interval([500.0] * 8, [500.0] * 8, 500.0, 500.0)
    assert (both.above_zero, both.below_zero) == (False, False)


@pytest.mark.parametrize("values", [[0.11, 0.11, 0.89], [0.99, 1.0, 1.0], [1.0] * 3, [0.5] * 4])
def test_the_interval_of_accuracies_stays_between_none_and_all(values):
    found = fraction_interval(values)
    assert 0 <= found.low < found.estimate
    assert found.high <= 1
    if len(set(values)) == 1:
        # That of a share of which all have the property, where all are 1.
        rest = 0.025 ** (1 / len(values))
        assert found.low == pytest.approx(values[0] * rest)


def test_the_detectable_effects_are_those_of_the_noncentral_t():
    """In standard deviations, at a power of 80%; 1 - 0.025^(1/3) is what three of three leave."""
    found = [round(detectable(n, 0.05), 2) for n in (3, 5, 8, 10, 20)]
    assert found == [3.26, 1.68, 1.16, 1.0, 0.66]
    rng = np.random.default_rng(0)
    low, _ = student(rng.standard_normal((20_000, 8)) + detectable(8, 0.05), 0.05)
    assert (low > 0).mean() == pytest.approx(0.8, abs=0.012)
    assert Scatter(1.0, 3).seeds(1.0, 0.05) == 10
    assert Share(0.5, 3).seeds(0.5, 0.05) == 6


def test_few_seeds_decide_nothing_at_small_levels():
    clear = mean_interval([2.0, 2.001, 1.999])
    assert clear.above_zero
    assert clear.at(0.03) == (-math.inf, math.inf)
    assert mean_interval([2.0, 2.001, 1.999, 2.0, 2.002]).at(0.002)[0] > 0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, PASS), (-0.2, 0.0, REFUTED), (-0.1, 0.1, UNDECIDED), (0.0, 0.1, UNDECIDED)],
)
def test_an_interval_passes_refutes_or_leaves_open(low, high, verdict):
    assert ABOVE_ZERO.verdict(low, high) == verdict
    assert Region(-0.25, 0.25).verdict(0.3, 0.4) == REFUTED


def test_an_undecided_claim_says_how_many_seeds_would_decide_it():
    interval = mean_interval([0.1, 0.3, -0.1, 0.2, 0.15])
    finding = Finding.judged(interval, ABOVE_ZERO, "x", "y")
    assert finding.verdict == UNDECIDED
    effect, scatter = interval.estimate, np.std([0.1, 0.3, -0.1, 0.2, 0.15], ddof=1)
    assert detectable(finding.seeds_needed, 0.05) <= effect / scatter
    assert detectable(finding.seeds_needed - 1, 0.05) > effect / scatter


def test_holms_p_values_are_those_of_the_textbook():
    """0.01, 0.04, 0.03 and 0.005 become 0.03, 0.06, 0.06 and 0.02, as by R's p.adjust."""

    def with_p(p, n=30):
        t = stats.t.isf(p / 2, n - 1)
        data = np.random.default_rng(1).standard_normal(n)
        data = (data - data.mean()) / data.std(ddof=1)
        return Finding.judged(mean_interval(data + t / math.sqrt(n)), ABOVE_ZERO, "", "")

    findings = [with_p(p) for p in (0.01, 0.04, 0.03, 0.005)]
    assert adjusted(findings) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-3)
    assert [f.verdict for f in holm(findings)] == [PASS, UNDECIDED, UNDECIDED, PASS]
    assert [f.verdict for f in findings] == [PASS] * 4


def test_the_best_of_one_part_has_to_beat_all_of_the_other():
    """By plain means over the seeds that decide; the seeds that choose have other values."""
    first = np.array([[9.0, 1.0, 1.1, 0.9], [0.0, 2.0, 2.1, 1.9]])
    second = np.array([[0.0, 0.5, 0.6, 0.4], [9.0, 0.8, 0.8, 0.9]])
    choosing = np.array([True, False, False, False])
    low, high, ours, theirs = best_few_difference(first[:, None], second, choosing, 0.05, 1)
    assert (ours.tolist(), int(theirs)) == ([[0, 0]], 1)
    expected = [mean_interval(first[0, 1:] - other[1:]).low for other in second]
    assert float(low) == pytest.approx(min(expected))
    expected = [mean_interval(arm[1:] - second[1, 1:]).high for arm in first]
    assert float(high) == pytest.approx(max(expected))


def test_pairs_are_told_apart_and_twins_are_not():
    rng = np.random.default_rng(0)
    best = 0.9 + 0.01 * rng.standard_normal(8)
    better = holm_pairs(np.array([best, best, best - 0.3 + 0.01 * rng.standard_normal(8)]), 0.05)
    assert better.tolist() == [[False, False, True], [False, False, True], [False, False, False]]
