"""Theory's boundary against cells whose truth is known, and against scikit-learn's area."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from initstudy.claims import EndsAfter, Separates, UntrainedBeyond
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
    assert finding.verdict == "PASS"
    assert finding.detail.startswith("area 1.000, and 0.932 for depth alone")
    assert finding.interval.estimate == pytest.approx(1 - 0.932, abs=1e-3)
    assert "beyond them 0 of" in finding.detail
    assert UntrainedBeyond("x").check(trained(6), "MLP").verdict == "PASS"
    assert UntrainedBeyond("x").check(trained(10), "MLP").verdict == "REFUTED"


def test_a_boundary_that_is_upside_down_fails():
    finding = Separates("x").check(trained(6, inverted=True), "MLP")
    assert (finding.verdict, finding.interval.estimate) == ("REFUTED", -0.9)
    assert finding.detail.startswith("area 0.000")


def test_theory_has_to_beat_the_depth_alone():
    """Where only the depth decides, theory's area is large and still no evidence for it."""

    def accuracy(sigma_w2, depth, _):
        return 0.9 if depth <= 20 else 0.1

    study = plane(SIGMAS, DEPTHS, accuracy=accuracy, more=theory)
    finding = Separates("x", limit=0.7).check(study, "MLP")
    assert finding.verdict == "REFUTED"
    assert "and 1.000 for depth alone" in finding.detail


def test_training_ends_after_the_multiple_that_separates_best():
    """Between the last cell that trains and the first that does not; six lies between them."""
    finding = EndsAfter("x", tolerance=2).check(trained(6), "MLP")
    scales = sorted(depth / scale(s) for s in SIGMAS[1] for depth in DEPTHS[1])
    below, above = max(s for s in scales if s < 6), min(s for s in scales if s >= 6)
    assert finding.estimate == pytest.approx(math.sqrt(below * above))
    assert finding.verdict == "PASS"
    assert finding.detail.endswith("; 0 of 288 runs lie on the wrong side of that")
    assert EndsAfter("x", scales=20).check(trained(6), "MLP").verdict == "REFUTED"


def test_a_grid_with_no_cell_that_trains_says_so():
    finding = Separates("x").check(trained(0), "MLP")
    assert (finding.verdict, finding.interval) == ("UNDECIDED", None)
    assert finding.detail == "no run trains; there is nothing to separate"
    without = plane(SIGMAS, DEPTHS)
    assert "needs model.depth, and a model that" in Separates("x").check(without, "MLP").detail


def test_the_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    score = rng.normal(size=40)
    positive = rng.binomial(3, 1 / (1 + np.exp(-score)))
    found = area(score, positive.astype(float), 3.0 - positive)
    labels = np.concatenate([np.ones(40), np.zeros(40)])
    weights = np.concatenate([positive, 3 - positive])
    expected = roc_auc_score(labels, np.tile(score, 2), sample_weight=weights)
    assert found == pytest.approx(expected)


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
