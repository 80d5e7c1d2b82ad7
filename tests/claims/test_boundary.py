"""Theory's boundary against cells whose truth is known, and against scikit-learn's area."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from initstudy.claims import Separates, UntrainedBeyond
from initstudy.claims.boundary import area, boundary
from initstudy.report.charts.catalogue import PLANE_CHARTS, charts_of
from initstudy.theory import meanfield
from tests.planes import plane

SIGMAS = ("init.sigma_w2", [1.0, 1.4, 1.8, 2.4, 3.0, 4.0])
DEPTHS = ("model.depth", [5, 10, 20, 40, 60, 80])


def theory(sigma_w2, depth, seed):
    return {"theory/activation": "tanh", "theory/sigma_w2": sigma_w2, "theory/sigma_b2": 0.05}


def scale(sigma_w2):
    return meanfield.analyze("tanh", sigma_w2, 0.05).xi_c


def trained(limit, inverted=False):
    def accuracy(sigma_w2, depth, _):
        return 0.9 if (depth / scale(sigma_w2) < limit) != inverted else 0.1

    return plane(SIGMAS, DEPTHS, accuracy=accuracy, more=theory)


def test_a_perfect_boundary_has_an_area_of_one():
    finding = Separates("x").check(trained(6), "MLP")
    assert (finding.verdict, finding.interval.estimate, finding.interval.low) == ("PASS", 1.0, 1.0)
    assert "beyond them 0 of" in finding.detail
    assert UntrainedBeyond("x").check(trained(6), "MLP").verdict == "PASS"
    assert UntrainedBeyond("x").check(trained(10), "MLP").verdict == "FAIL"


def test_a_boundary_that_is_upside_down_fails():
    finding = Separates("x").check(trained(6, inverted=True), "MLP")
    assert (finding.verdict, finding.interval.estimate) == ("FAIL", 0.0)


def test_a_grid_with_no_cell_that_trains_says_so():
    finding = Separates("x").check(trained(0), "MLP")
    assert (finding.verdict, finding.interval) == ("UNDECIDED", None)
    assert finding.detail == "no run trains; there is nothing to separate"
    without = plane(SIGMAS, DEPTHS)
    assert "needs model.depth, and a model that" in Separates("x").check(without, "MLP").detail


def test_the_area_is_scikit_learns_and_its_interval_covers():
    rng = np.random.default_rng(0)
    score = rng.normal(size=40)
    positive = rng.binomial(3, 1 / (1 + np.exp(-score)))
    found = area(score, positive.astype(float), 3.0 - positive)
    labels = np.concatenate([np.ones(40), np.zeros(40)])
    weights = np.concatenate([positive, 3 - positive])
    expected = roc_auc_score(labels, np.tile(score, 2), sample_weight=weights)
    assert found.estimate == pytest.approx(expected)
    # Two normals apart by d have an area of Φ(d/√2); 95 of 100 intervals should hold it.
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))
    held = 0
    for _ in range(100):
        score = np.concatenate([rng.normal(1, 1, 60), rng.normal(0, 1, 60)])
        is_good = np.repeat([1.0, 0.0], 60)
        interval = area(score, is_good, 1 - is_good, resamples=400)
        held += interval.low <= truth <= interval.high
    assert held >= 88


def test_the_line_is_six_depth_scales_of_the_theory():
    line = boundary(trained(6), "MLP")
    for row in line[:: len(line) // 10]:
        assert row["depth"] == pytest.approx(6 * scale(row["by"]), rel=0.01)
    assert max(row["depth"] for row in line) > 1000  # at the edge of chaos it has no bound


def test_a_plane_is_drawn_with_its_boundary_and_its_losses():
    study = plane(SIGMAS, DEPTHS, more=theory, diverged=lambda s, depth: s == 4 and depth == 80)
    spec = charts_of(study)["phase"](study, "MLP")
    marks = [layer["mark"]["type"] for layer in spec["layer"]]
    assert marks == ["rect", "point", "line", "line"]
    subtitle = " ".join(spec["title"]["subtitle"])
    assert "Dashed: theory, 6 depth scales" in subtitle
    assert "×: most runs of the cell diverged" in subtitle
    plain = plane(SIGMAS, DEPTHS)
    assert [m["mark"]["type"] for m in PLANE_CHARTS["phase"](plain, "MLP")["layer"]] == ["rect"]
