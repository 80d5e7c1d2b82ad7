from __future__ import annotations

import math

import numpy as np
import pytest

from initstudy import claims
from initstudy.claims import SignalGrowth, WorseThanBest, evaluate_study
from initstudy.config.paths import CONF
from initstudy.store.frames import prepare
from tests.synthetic import STDS, sweep


def check(claim, **truth):
    return claim.check(prepare(sweep(**{"seeds": 8} | truth)), "MLP")


def test_a_real_effect_passes_with_its_size():
    finding = check(WorseThanBest("large is worse"))
    assert finding.verdict == "PASS"
    # Those that diverged count as chance, which this made-up study does not know: as zero.
    assert finding.interval.low < 0.0 - 0.95 < finding.interval.high
    assert "24 of 24 runs diverged" in finding.detail


def test_the_reverse_of_an_effect_fails():
    finding = check(
        WorseThanBest("large is worse"),
        accuracy=lambda std: 0.9 if std > 1 else 0.2,
        diverges=lambda std: False,
    )
    assert finding.verdict == "REFUTED"


def test_smallest_and_losses_and_diverged_runs():
    small = WorseThanBest("small is worse", at="smallest")
    assert check(small).verdict == "PASS"
    loss = WorseThanBest(
        "loss", metric="train/loss", higher_is_better=False, log=True, diverged_as=2.303
    )
    finding = check(loss)
    assert finding.verdict == "PASS"
    # All three largest diverged, so they count as at least the loss of guessing.
    best = 2.3 * 0.05 + 1e-3
    assert finding.interval.estimate == pytest.approx(math.log10(2.303 / best), abs=0.15)


def test_one_seed_or_too_few_values_decide_nothing():
    finding = check(WorseThanBest("x"), seeds=1)
    assert (finding.verdict, finding.interval) == ("UNDECIDED", None)
    assert finding.detail == (
        "needs at least 5 seeds (every third of which chooses) and 4 values of init.std; this "
        "study has 1 and 14"
    )
    assert check(WorseThanBest("x"), stds=STDS[:3]).verdict == "UNDECIDED"
    assert check(SignalGrowth("x"), probes=False).verdict == "UNDECIDED"


def test_signal_growth_finds_where_the_slope_changes_sign():
    # Activations grow by 4·std a layer: not at all at 0.25, which is √(2/32).
    finding = check(SignalGrowth("x"))
    assert finding.verdict == "PASS"
    assert finding.detail.endswith("the sign changes at init.std 0.25, and theory says 0.25")
    assert check(SignalGrowth("x", critical=1.0)).verdict == "PASS"
    one_sided = check(SignalGrowth("x"), stds=STDS[:6])
    assert one_sided.verdict == "UNDECIDED"
    assert one_sided.detail == ("the whole grid lies on one side of 0.25: extend the grid above it")


def test_the_finding_of_signal_growth_says_what_it_measured():
    finding = check(SignalGrowth("x"))
    # The slope at each value is ln(4·std); averaged on each side of 0.25.
    above, below = (
        np.mean([math.log(4 * std) for std in STDS if bool(std > 0.25) is side])
        for side in (True, False)
    )
    assert finding.detail == (
        f"ln(rms) changes by +{above:.2f} per layer above the critical std and by "
        f"−{-below:.2f} below; the sign changes at init.std 0.25, and theory says 0.25"
    )


def test_every_claim_of_a_configuration_is_a_public_one():
    import yaml

    targets = {
        claim["_target_"]
        for file in (CONF / "sweep").glob("*.yaml")
        for claim in (yaml.safe_load(file.read_text()).get("claims") or {}).values()
    }
    assert len(targets) > 10
    assert {target.removeprefix("initstudy.claims.") for target in targets} <= {*claims.__all__}


def test_each_model_is_checked_on_its_own():
    results = evaluate_study(prepare(sweep(models=("MLP", "CNN"))))
    assert [(r.claim, r.facet) for r in results] == [
        ("hurts", "MLP"),
        ("hurts", "CNN"),
        ("growth", "MLP"),
        ("growth", "CNN"),
    ]
