from __future__ import annotations

import math

import numpy as np
import pytest

from initstudy.claims.claim import SignalGrowth, WorseThanBest, evaluate
from initstudy.store.frames import prepare
from tests.synthetic import STDS, sweep


def check(claim, **truth):
    return claim.check(prepare(sweep(**truth)), "MLP")


def test_a_real_effect_passes_with_its_size():
    verdict, interval, _, detail = check(WorseThanBest("large is worse"))
    assert verdict == "PASS"
    assert interval.low < 0.1 - 0.95 < interval.high
    assert "9 of 9 runs diverged" in detail


def test_the_reverse_of_an_effect_fails():
    verdict, _, _, _ = check(
        WorseThanBest("large is worse"),
        accuracy=lambda std: 0.9 if std > 1 else 0.2,
        diverges=lambda std: False,
    )
    assert verdict == "FAIL"


def test_no_effect_is_seldom_taken_for_one():
    """Choosing the best by the other seeds keeps a null sweep from passing by selection."""
    passed = 0
    for number in range(400):
        rng = np.random.default_rng(number)
        verdict, *_ = check(
            WorseThanBest("large is worse"),
            accuracy=lambda std, rng=rng: 0.5 + 0.02 * rng.standard_normal(),
            diverges=lambda std: False,
            noise=0.0,
        )
        passed += verdict == "PASS"
    # 5% of 400 are 20, with a standard deviation of 4.4; a best chosen with the seed's own number
    # would pass in 46.
    assert passed <= 33


def test_smallest_and_losses_and_diverged_runs():
    small = WorseThanBest("small is worse", at="smallest")
    assert check(small)[0] == "PASS"
    loss = WorseThanBest(
        "loss", metric="train/loss", higher_is_better=False, log=True, diverged_as=2.303
    )
    verdict, interval, _, _ = check(loss)
    assert verdict == "PASS"
    # All three largest diverged, so they count as at least the loss of guessing.
    best = 2.3 * 0.05 + 1e-3
    assert interval.estimate == pytest.approx(math.log10(2.303 / best), abs=0.15)


def test_one_seed_or_too_few_values_decide_nothing():
    verdict, interval, _, detail = check(WorseThanBest("x"), seeds=1)
    assert (verdict, interval) == ("UNDECIDED", None)
    assert "two seeds" in detail
    assert check(WorseThanBest("x"), stds=STDS[:3])[0] == "UNDECIDED"
    assert check(SignalGrowth("x"), probes=False)[0] == "UNDECIDED"


def test_signal_growth_finds_where_the_slope_changes_sign():
    # Activations grow by 4·std a layer: not at all at 0.25, which is √(2/32).
    verdict, interval, _, detail = check(SignalGrowth("x"))
    assert verdict == "PASS"
    assert interval.estimate == pytest.approx(0.25, rel=1e-6)
    assert "theory says 0.25" in detail
    assert check(SignalGrowth("x", critical=1.0))[0] == "PASS"
    assert check(SignalGrowth("x"), stds=STDS[:6])[0] == "FAIL"


def test_each_model_is_checked_on_its_own():
    results = evaluate(prepare(sweep(models=("MLP", "CNN"))))
    assert [(r.claim, r.facet) for r in results] == [
        ("hurts", "MLP"),
        ("hurts", "CNN"),
        ("growth", "MLP"),
        ("growth", "CNN"),
    ]
