"""Theory's band for nets of finite width, on networks that are really drawn."""

from __future__ import annotations

import numpy as np
import pytest

from initstudy.claims import InBand, synthetic_study
from initstudy.claims.band import in_band
from initstudy.report.charts.catalogue import CHARTS
from initstudy.theory import meanfield

WIDTH, DEPTH = 50, 4


def networks(factor=1.0, seeds=200):
    """ReLU nets with an input of mean square 1, and the spread that theory has times a factor."""
    layers = meanfield.dense([WIDTH] * (DEPTH + 1), stds=(2 / WIDTH) ** 0.5)
    mean = meanfield.forward_variances("relu", layers).activations
    spread = meanfield.forward_spread("relu", layers).activations

    def results(std, seed):
        rng = np.random.default_rng(seed)
        h, found = rng.choice([-1.0, 1.0], WIDTH), {}
        for number in range(1, DEPTH + 1):
            h = np.maximum(std * rng.standard_normal((WIDTH, WIDTH)) @ h, 0)
            name = f"activation/fc{number}"
            found[f"{name}/rms"] = float(np.sqrt(np.mean(h * h)))
            found[f"{name}/theory"] = mean[number - 1] ** 0.5
            found[f"{name}/theory_spread"] = factor * spread[number - 1]
        return found

    return synthetic_study({"init.std": [(2 / WIDTH) ** 0.5]}, results, seeds=seeds)


def test_nineteen_of_twenty_layers_lie_in_the_band():
    study = networks()
    layers = in_band(study, "MLP")
    assert len(layers) == 200 * DEPTH
    assert layers["inside"].mean() == pytest.approx(0.95, abs=0.03)
    assert InBand("x").check(study, "MLP").verdict == "PASS"


def test_a_band_that_is_too_narrow_is_refuted():
    study = networks(factor=1 / 25)
    assert InBand("x").check(study, "MLP").verdict == "REFUTED"
    # A fifth of two deviations of a normal distribution holds 31%.
    assert in_band(study, "MLP")["inside"].mean() == pytest.approx(0.31, abs=0.05)


def test_the_band_is_drawn_and_its_layers_are_counted():
    spec = CHARTS["activations"](networks(seeds=3), "MLP")
    said = " ".join(spec["title"]["subtitle"])
    assert "Bands: 95% of nets of this width; 11 of 12 layers lie inside." in said
    marks = [layer["mark"]["type"] for layer in spec["hconcat"][0]["layer"]]
    assert marks[0] == "area"


def test_what_theory_does_not_cover_is_not_judged():
    study = synthetic_study({"init.std": [0.1]}, lambda std, seed: {"activation/fc1/rms": 1.0})
    assert InBand("x").check(study, "MLP").verdict == "UNDECIDED"
