from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from initstudy.claims.statistics import mean_interval


def test_students_interval_is_that_of_the_textbook():
    # Student's own sleep data (1908): mean 1.58, 95% interval 0.70 to 2.46.
    gains = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6]
    found = mean_interval(gains)
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "Student's t, n=9 seeds"


@pytest.mark.parametrize("n", [3, 10, 29, 40])
def test_any_number_of_values_has_students_interval(n):
    data = np.random.default_rng(1).normal(3, 1, n)
    expected = stats.ttest_1samp(data, 0).confidence_interval(0.95)
    found = mean_interval(data)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [(i := mean_interval(rng.normal(1, 2, 4))).low < 1 < i.high for _ in range(1500)]
    # Four standard errors of a proportion of 95%.
    assert np.mean(covered) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 1500))


def test_one_value_has_no_ends_and_equal_ones_prove_nothing_below_six():
    one = mean_interval([0.3])
    assert (one.low, one.high) == (-math.inf, math.inf)
    assert not one.above_zero
    for count in range(2, 9):
        same = mean_interval([0.1 + 0.2, *[0.3] * (count - 1)])
        certain = same.low == same.high == same.estimate
        # The sign test: n values on one side have a p-value of 2^(1-n).
        assert certain == (stats.binomtest(count, count).pvalue <= 0.05), count
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, math.nan])
