"""Claims along a second key, on sweeps whose truth is known."""

from __future__ import annotations

import math

import pytest

from initstudy.claims import (
    BestAcross,
    BetterAt,
    BetterAtBest,
    Narrows,
    StillWorse,
    Trend,
    Within,
)
from tests.planes import plane

INIT, DEPTH = ("init", ["fast", "slow"]), ("model.depth", [4, 8, 16, 32, 64])
STDS, RATES = (
    ("init.std", [0.001, 0.01, 0.1, 1.0, 10.0]),
    ("optimizer.lr", [1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1]),
)


def times(exponents, **more):
    """Each choice learns in 20·(depth/4)^exponent steps."""
    law = lambda b, a, t: 20 * (a / 4) ** exponents[b]  # noqa: E731
    return plane(INIT, DEPTH, time=law, criterion=0.8, noise=0.02, **more)


def test_a_trend_is_the_exponent_of_its_power_law():
    study = times({"fast": 0.0, "slow": 1.0})
    finding = Trend("x", "slow", low=0.5).check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.estimate == pytest.approx(1.0, abs=0.05)
    assert finding.unit == "exponent of learning_time in model.depth"
    assert Trend("x", "fast", low=-0.2, high=0.2).check(study, "MLP").verdict == "PASS"
    assert Trend("x", "fast", low=0.5).check(study, "MLP").verdict == "REFUTED"
    assert Trend("x", "slow", high=0.2).check(study, "MLP").verdict == "REFUTED"
    assert Trend("x", "gone").check(study, "MLP").verdict == "UNDECIDED"


def test_better_at_the_deepest_is_a_ratio_of_times():
    study = times({"fast": 0.0, "slow": 1.0})
    finding = BetterAt("x", "fast", "slow").check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.estimate == pytest.approx(2.77, abs=0.15)  # ln(64/4)
    assert "at model.depth 64" in finding.detail
    assert BetterAt("x", "slow", "fast").check(study, "MLP").verdict == "REFUTED"
    assert BetterAt("x", "fast", "slow", at=4).check(study, "MLP").verdict == "UNDECIDED"
    assert BetterAt("x", "fast", "gone").check(study, "MLP").verdict == "UNDECIDED"


def test_a_choice_lies_within_limits():
    study = plane(INIT, DEPTH, accuracy=lambda b, a, t: 0.9 - a / 100, noise=0.01)
    assert Within("x", "fast", low=0.2, high=0.3).check(study, "MLP").verdict == "PASS"
    assert Within("x", "fast", low=0.8, at=4).check(study, "MLP").verdict == "PASS"
    assert Within("x", "fast", low=0.8).check(study, "MLP").verdict == "REFUTED"


@pytest.mark.parametrize(("rescued", "verdict"), [(False, "PASS"), (True, "UNDECIDED")])
def test_a_smaller_step_rescues_a_large_value_or_does_not(rescued, verdict):
    def accuracy(std, lr, _):
        good = 2e-5 if std < 1 else 2e-6
        return 0.95 - 0.2 * abs(math.log10(lr / good)) if std < 1 or rescued else 0.2

    def trained(rates):
        rates = ("optimizer.lr", rates)
        return plane(STDS, rates, accuracy=accuracy, noise=0.01)

    rates = [1e-7, 1e-6, 2e-6, 1e-5, 2e-5, 1e-4]
    finding = StillWorse("x", count=2).check(trained(rates), "MLP")
    assert finding.verdict == verdict
    # With rates that end too high, the end only seems to be lost; nothing is decided by that.
    if rescued:
        short = StillWorse("x", count=2).check(trained(rates[3:]), "MLP")
        assert short.verdict == "UNDECIDED"
        assert short.seeds_needed is None
        assert "extend the grid below 1e-05" in short.detail


def test_each_choice_is_judged_at_what_suits_it_best():
    """At any one rate the loser looks better somewhere; at its own best it loses."""
    best = {"fast": 0.001, "slow": 0.01}

    def accuracy(choice, lr, _):
        return (0.9 if choice == "fast" else 0.8) * (lr == best[choice])

    study = plane(INIT, RATES, accuracy=accuracy, noise=0.01)
    finding = BetterAtBest("x", "fast", ["slow"]).check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.estimate == pytest.approx(0.1, abs=0.02)
    assert "fast 0.898 at 0.001" in finding.detail
    assert BetterAtBest("x", "slow", ["fast"]).check(study, "MLP").verdict == "REFUTED"


def test_a_best_value_at_the_edge_of_its_grid_decides_nothing():
    def accuracy(choice, lr, _):
        return (0.9 if choice == "fast" else 0.5) - lr

    study = plane(INIT, RATES, accuracy=accuracy, noise=0.001)
    finding = BetterAtBest("x", "fast", ["slow"]).check(study, "MLP")
    assert finding.verdict == "UNDECIDED"
    assert "the best optimizer.lr of fast is" in finding.detail
    tuned = plane(INIT, DEPTH, accuracy=accuracy_at_edge, tune=RATES, noise=0.001)
    for claim in (
        BetterAt("x", "fast", "slow", metric="test/accuracy"),
        Within("x", "fast", low=0.5),
        Trend("x", "fast", low=-1, metric="test/accuracy"),
    ):
        found = claim.check(tuned, "MLP")
        assert found.verdict == "UNDECIDED", claim
        assert "extend the grid above 0.1" in found.detail, claim


def accuracy_at_edge(choice, depth, lr):
    return 0.6 + lr


def test_a_run_that_never_learned_is_no_slow_one():
    """All of the deep ones are censored, so nobody knows how fast the time grows."""
    study = plane(INIT, DEPTH, time=lambda b, a, t: 100 * a, criterion=0.8, noise=0.02, steps=1000)
    finding = Trend("x", "slow", high=2.0).check(study, "MLP")
    assert (finding.verdict, finding.high) == ("UNDECIDED", math.inf)
    assert Trend("x", "slow", low=0.1).check(study, "MLP").verdict == "PASS"
    assert "runs never reached it" in finding.detail
    # Neither learns at the deepest: that tells nothing about which is sooner.
    assert BetterAt("x", "fast", "slow").check(study, "MLP").verdict == "UNDECIDED"


def test_the_range_that_trains_narrows():
    def accuracy(std, depth, _):
        return 0.95 if abs(std - 0.1) < 0.001 or depth < 16 else 0.2

    study = plane(STDS, DEPTH, accuracy=accuracy, noise=0.001)
    finding = Narrows("x", limit=0.9).check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.above_zero is False
    assert "4 at 4" in finding.detail
    constant = plane(STDS, DEPTH, accuracy=lambda b, a, t: 0.95, noise=0.001)
    assert Narrows("x", limit=0.9).check(constant, "MLP").verdict == "REFUTED"
    nothing = Narrows("x", limit=0.99).check(constant, "MLP")
    assert nothing.verdict == "UNDECIDED"
    assert "the grid holds none that trains" in nothing.detail


@pytest.mark.parametrize("exponent", [0.0, -1.0])
def test_the_best_rate_moves_with_width_as_it_does(exponent):
    rates = [2.0**k for k in range(-6, 3)]
    widths = [16, 32, 64, 128]

    def accuracy(width, rate, _):
        from math import log2

        return 0.9 - 0.05 * abs(log2(rate) - exponent * log2(width / 16))

    study = plane(("model.width", widths), ("optimizer.lr", rates), accuracy=accuracy)
    finding = BestAcross("x", -0.25, 0.25).check(study, "MLP")
    assert finding.interval.estimate == pytest.approx(exponent, abs=0.1)
    assert finding.verdict == ("PASS" if exponent == 0 else "REFUTED")
