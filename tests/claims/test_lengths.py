"""Lengths of signals in networks that are really drawn, as a sweep would have stored them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from initstudy.claims import LengthFactor, LengthSpread
from initstudy.report.charts.length_spread import spread_of_lengths
from initstudy.report.charts.style import NothingToShow
from initstudy.store import Store
from initstudy.store.frames import prepare
from tests.planes import plane


def networks(scale, shapes, seeds):
    """ReLU networks with weights of variance scale/fan_in, each with one input of its own."""
    rng = np.random.default_rng(1)
    runs, history = [], []
    for width, depth in shapes:
        for seed in range(seeds):
            run = f"{len(runs):012d}"
            runs.append(
                {
                    "run": run,
                    "init.scale": scale,
                    "model.width": width,
                    "model.depth": depth,
                    "seed": seed,
                    "init._target_": "x",
                    "model._target_": "x.MLP",
                    "test/accuracy": 0.1,
                    "train/loss": 2.3,
                    "diverged_step": None,
                }
            )
            h, row = rng.standard_normal(width), {"run": run, "step": 0}
            for layer in range(1, depth + 1):
                weights = np.sqrt(scale / width) * rng.standard_normal((width, width))
                h = np.maximum(weights @ h, 0)
                row[f"activation/fc{layer}/rms"] = float(np.sqrt(np.mean(h * h)))
            history.append(row)
    about = {"by": "model.width", "across": "model.depth"}
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (runs, history))
    return prepare(Store(*frames, about))


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_the_length_changes_by_half_the_scale_a_layer(scale):
    study = networks(scale, [(50, 5), (50, 11), (100, 11)], 40)
    finding = LengthFactor("x", scale / 2, 0.1).check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.low < np.log(scale / 2) < finding.interval.high
    assert LengthFactor("x", scale / 2 + 0.3, 0.1).check(study, "MLP").verdict == "REFUTED"


def test_the_spread_is_five_times_the_sum_of_inverse_widths():
    study = networks(2.0, [(80, 3), (80, 9), (40, 9)], 120)
    # Architectures of the same sum are not one: their means may differ.
    exploding = networks(4.0, [(80, 9), (40, 5), (40, 9)], 60)
    assert LengthSpread("x").check(exploding, "MLP").estimate < 9
    finding = LengthSpread("x", tolerance=3.0).check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.low < 5.3 < finding.interval.high
    assert LengthSpread("x", slope=2.0).check(study, "MLP").verdict == "REFUTED"
    spec = spread_of_lengths(study, "MLP")
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["line", "point"]


def test_a_sweep_without_lengths_says_so():
    unprobed = plane(("model.width", [10, 20]), ("model.depth", [4, 8]))
    assert LengthSpread("x").check(unprobed, "MLP").verdict == "UNDECIDED"
    with pytest.raises(NothingToShow, match="not probed"):
        spread_of_lengths(unprobed, "MLP")
    few = networks(2.0, [(20, 3), (20, 5)], 4)
    with pytest.raises(NothingToShow, match="takes 30 networks"):
        spread_of_lengths(few, "MLP")
