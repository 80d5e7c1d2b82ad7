"""The coordinate check, on sweeps whose exponents are known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from initstudy.claims import CoordinateCheck
from initstudy.report.charts.coordinate_check import coordinates
from initstudy.report.charts.style import NothingToShow
from initstudy.store import Store
from initstudy.store.frames import prepare
from tests.planes import plane

RATES = (0.001, 0.01, 0.1)


def growing(exponents, seeds=8):
    """At step 0 all layers are level; later each grows with width by its exponent times 10·rate."""
    rng = np.random.default_rng(0)
    runs, history = [], []
    for width in (64, 128, 256, 512):
        for rate in RATES:
            for seed in range(seeds):
                run = f"{len(runs):012d}"
                runs.append(
                    {
                        "run": run,
                        "model.width": width,
                        "optimizer.lr": rate,
                        "seed": seed,
                        "init._target_": "x",
                        "model._target_": "x.MLP",
                        "test/accuracy": 0.5,
                        "train/loss": 1.0,
                        "diverged_step": None,
                    }
                )
                for step in (0, 5, 10, 100):
                    row = {"run": run, "step": step}
                    for layer, exponent in exponents.items():
                        power = 0 if step == 0 else exponent * rate * 100
                        noise = np.exp(0.01 * rng.standard_normal())
                        row[f"activation/{layer}/rms"] = (width / 64) ** power * noise
                    history.append(row)
    about = {"by": "model.width", "across": "optimizer.lr", "layers": {"MLP": list(exponents)}}
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (runs, history))
    return prepare(Store(*frames, about))


def test_the_layer_that_grows_most_decides():
    study = growing({"fc1": 0.0, "fc2": 0.05, "head": 0.5})
    level = CoordinateCheck("x", step=10, lr=0.01, low=-0.15, high=0.15)
    finding = level.check(study, "MLP")
    assert finding.verdict == "REFUTED"
    assert finding.interval.estimate == pytest.approx(0.5, abs=0.02)
    assert finding.unit.endswith(", head")
    assert "fc2 +0.05" in finding.detail
    # Another rate, the start, or the other layers: level.
    for check in (
        CoordinateCheck("x", step=10, lr=0.001, low=-0.15, high=0.15),
        CoordinateCheck("x", step=4, lr=0.01, low=-0.15, high=0.15),
        CoordinateCheck("x", step=10, lr=0.01, low=-0.15, high=0.15, layers=["fc1", "fc2"]),
    ):
        assert check.check(study, "MLP").verdict == "PASS"
    grows = CoordinateCheck("x", step=10, lr=0.01, low=0.25, layers=["head"])
    assert grows.check(study, "MLP").verdict == "PASS"


def test_one_seed_decides_nothing_and_an_unprobed_sweep_shows_nothing():
    check = CoordinateCheck("x", step=10, lr=0.01)
    assert check.check(growing({"fc1": 0.0}, seeds=1), "MLP").verdict == "UNDECIDED"
    unprobed = plane(("model.width", [64, 128]), ("optimizer.lr", [0.1, 1.0]))
    assert check.check(unprobed, "MLP").verdict == "UNDECIDED"
    with pytest.raises(NothingToShow, match="No coordinate check"):
        coordinates(unprobed, "MLP")


def test_the_chart_has_a_panel_for_the_start_and_the_end():
    spec = coordinates(growing({"fc1": 0.0, "head": 0.5}), "MLP")
    assert [panel["title"] for panel in spec["hconcat"]] == ["step 0", "step 10", "step 100"]
