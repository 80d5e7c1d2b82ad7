"""What charts show of a step, and theory's contours, against closed forms."""

from __future__ import annotations

import polars as pl
import pytest

from initstudy.columns import ACTIVATION_RMS
from initstudy.report.charts.signal_heat import contours
from initstudy.report.data.steps import MOST_STEPS, at_step, chosen_steps, few, over_steps
from initstudy.report.data.steps import measured as measured_in
from initstudy.store.frames import prepare
from tests.synthetic import LAYERS, STDS, sweep


def test_a_run_that_diverged_stays_at_its_own_last_measurement():
    study = prepare(sweep())
    rows, columns = measured_in(study, "MLP", ACTIVATION_RMS)
    steps, long = over_steps(study, "MLP", rows, columns)
    assert steps == [0, 7, 20, 40]
    found = {(r["by"], r["step"]): r["value"] for r in long if r["layer"] == "fc2"}
    for std in STDS:
        last = 7 if std > 1 else 40
        for step in (0, 20, 40):
            expected = (std * 4) ** 2 * 10 ** (min(step, last) / 20)
            assert found[std, step] == pytest.approx(expected)


def test_steps_are_thinned_with_both_ends_kept():
    rows = pl.DataFrame({"step": range(0, 20_000, 20)})
    steps = chosen_steps(rows)
    assert len(steps) <= MOST_STEPS
    assert (steps[0], steps[-1]) == (0, 19_980)
    assert steps[1] == 20


def test_few_keeps_both_ends_in_order():
    assert few(range(10), 4) == [0, 3, 6, 9]
    assert few([1, 2], 4) == [1, 2]


def test_at_step_never_looks_ahead():
    rows = pl.DataFrame({"run": ["a", "a", "b"], "step": [0, 20, 20], "x": [1, 2, 3]})
    assert at_step(rows, 10).to_dicts() == [{"run": "a", "step": 0, "x": 1}]


def test_contours_are_where_a_power_law_crosses_a_level():
    """(4 std)^k crosses 1 at std = 1/4 in every layer, and 10 at 10^(1/k)/4."""
    rows = [
        {"by": std, "layer": layer, "value": (4 * std) ** k}
        for std in STDS
        for k, layer in enumerate(LAYERS, 1)
    ]
    found = contours(rows, list(LAYERS), [1.0, 10.0], logarithmic=True)
    assert len(found) == 2 * len(LAYERS)
    for k, layer in enumerate(LAYERS, 1):
        one, ten = (
            next(r["by"] for r in found if (r["layer"], r["level"]) == (layer, level))
            for level in (1.0, 10.0)
        )
        assert one == pytest.approx(0.25)
        assert ten == pytest.approx(10 ** (1 / k) / 4)
