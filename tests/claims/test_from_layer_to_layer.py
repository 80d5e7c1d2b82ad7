"""Claims about what happens from layer to layer, on sweeps whose truth is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from initstudy.claims import Flatter, TopSaturatesFirst
from initstudy.store import Store
from initstudy.store.frames import prepare

LAYERS = ("fc1", "fc2", "fc3", "head")


def deep(factors, saturated=0.0, seeds=8, noise=0.02):
    """Each choice multiplies the activations' deviation by its factor a layer."""
    rng = np.random.default_rng(0)
    runs, history = [], []
    for choice, factor in factors.items():
        for seed in range(seeds):
            run = f"{choice}{seed}"
            runs.append(
                {
                    "run": run,
                    "init": choice,
                    "init._target_": choice,
                    "seed": seed,
                    "model._target_": "x.MLP",
                    "test/accuracy": 0.5,
                    "train/loss": 1.0,
                    "diverged_step": None,
                }
            )
            for step in (0, 10, 20):
                row = {"run": run, "step": step}
                for place, layer in enumerate(LAYERS):
                    # After the first step everything is flat: only the first one counts.
                    std = factor**place if step == 0 else 1.0
                    row[f"activation/{layer}/std"] = std * np.exp(noise * rng.standard_normal())
                    row[f"activation/{layer}/rms"] = 1.0
                    top = saturated if layer == "fc3" and step == 10 else 0.0
                    row[f"activation/{layer}/saturated"] = top + 0.01 * rng.random()
                history.append(row)
    study = {"by": "init", "layers": {"MLP": list(LAYERS)}}
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (runs, history))
    return prepare(Store(*frames, study))


@pytest.mark.parametrize(("steep", "flat"), [(0.5, 0.9), (2.0, 1.1), (2.0, 0.9)])
def test_the_flatter_one_is_the_one_closer_to_no_change(steep, flat):
    study = deep({"steep": steep, "flat": flat})
    finding = Flatter("x", "flat", "steep").check(study, "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.estimate == pytest.approx(
        abs(np.log(steep)) - abs(np.log(flat)), abs=0.05
    )
    assert "changes per layer" in finding.detail
    assert Flatter("x", "steep", "flat").check(study, "MLP").verdict == "REFUTED"


def test_the_top_layer_saturates_at_any_time_of_training():
    assert (
        TopSaturatesFirst("x", "a").check(deep({"a": 1.0}, saturated=0.4), "MLP").verdict == "PASS"
    )
    finding = TopSaturatesFirst("x", "a").check(deep({"a": 1.0}), "MLP")
    assert finding.verdict == "UNDECIDED"
    assert abs(finding.interval.estimate) < 0.02


def test_what_the_sweep_lacks_decides_nothing():
    one = deep({"a": 1.0, "b": 0.5}, seeds=1)
    assert Flatter("x", "a", "b").check(one, "MLP").verdict == "UNDECIDED"
    assert Flatter("x", "a", "c").check(deep({"a": 1.0}), "MLP").verdict == "UNDECIDED"
    assert Flatter("x", "a", "b", "gone/{layer}/std").check(one, "MLP").verdict == "UNDECIDED"
    assert TopSaturatesFirst("x", "a").check(one, "MLP").verdict == "UNDECIDED"
    without = prepare(
        Store(
            one.runs.drop("by", "facet", "diverged"),
            one.history.select("run", "step", "activation/fc1/rms", "activation/head/rms"),
            one.about,
        )
    )
    assert TopSaturatesFirst("x", "a").check(without, "MLP").verdict == "UNDECIDED"
