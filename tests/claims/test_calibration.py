"""Claims err no more often than they promise, by simulation with few studies per number."""

from __future__ import annotations

import importlib

import pytest

from initstudy.config.paths import CONF

STUDIES = 400


@pytest.fixture(scope="module")
def calibration():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CONF.parent / "experiments"))
        yield importlib.import_module("calibration")


def test_no_class_errs_more_often_than_promised(calibration):
    """At 3, 5, 8, 12 and 20 seeds, with heavy tails, and with runs that are stuck or trained."""
    found = [rate for case in calibration.CASES for rate in calibration.rates(case, STUDIES)]
    assert len(found) > 50
    too_often = [
        (rate.case.name, rate.scatter, rate.shares)
        for rate in found
        if max(rate.shares) > rate.allowed + 0.01
    ]
    assert not too_often


@pytest.mark.parametrize("effect", [1.2, 2.0])
def test_more_seeds_find_more(calibration, effect):
    """Twenty seeds find an effect of 1.2 deviations nearly always, and three seldom."""
    cases = {case.name: case for case in calibration.CASES}
    for name in ("Better", "WorseThanBest, eleven others all alike", "SignalGrowth"):
        for rate in calibration.rates(cases[name], STUDIES, [effect]):
            assert rate.shares[-1] > 0.9, (name, rate.scatter)
            assert rate.shares[0] < rate.shares[-1], (name, rate.scatter)


@pytest.mark.parametrize("scatter", ["normal", "heavy tails", "stuck or trained"])
def test_looks_spend_the_error_of_one_test_and_save_seeds(calibration, scatter):
    nothing = calibration.look(2000, scatter, 0.0)
    assert nothing.wrong < 0.025 + 0.0105
    clear = calibration.look(500, scatter, 2.0)
    assert clear.power > 0.97
    assert clear.seeds < 8


def test_a_method_that_errs_too_often_is_found_out(calibration):
    """What leaves each seed out in turn, as was done before, shows in the same simulation."""

    def left_out(rng, studies, seeds, scatter, effect):
        import numpy as np

        first = calibration.noise(rng, (studies, 9, seeds), scatter)
        second = calibration.noise(rng, (studies, seeds), scatter)
        total = first.sum(-1, keepdims=True)
        best = (total - first).argmax(1)
        chosen = np.take_along_axis(first, best[:, None], 1)[:, 0]
        return calibration.verdicts(*calibration.student(chosen - second, calibration.LEVEL))

    case = calibration.Case("left out", left_out, ("normal",))
    (rate,) = calibration.rates(case, 2000)
    assert rate.shares[-1] > 2 * rate.allowed
