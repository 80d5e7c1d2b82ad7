"""What counts for each point of two keys."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from initstudy.store.cells import cells, points
from tests.planes import plane

INIT, DEPTH, LR = ("init", ["a", "b"]), ("model.depth", [4, 16, 64]), ("optimizer.lr", [0.1, 1.0])


def test_both_keys_and_the_tuned_one_make_no_facets():
    study = plane(INIT, DEPTH, tune=LR)
    assert study.facets == ["MLP"]
    assert (study.by, study.across, study.tune) == ("init", "model.depth", "optimizer.lr")


def test_the_learning_time_is_the_first_step_at_the_criterion():
    study = plane(INIT, DEPTH, time=lambda b, a, t: a * 10, criterion=0.8)
    found = points(study, "MLP", "learning_time")
    assert {a: set(v.values()) for a, v in found["a"].items()} == {4: {40}, 16: {160}, 64: {640}}
    # Never reached within 1,000 steps: all of them, as a lower bound.
    late = plane(INIT, DEPTH, time=lambda b, a, t: a * 100, criterion=0.8)
    assert late.runs.filter(pl.col("across") == 64)["learning_time"].null_count() == 16
    assert set(points(late, "MLP", "learning_time")["a"][64].values()) == {1000}


def test_some_seeds_choose_and_the_others_are_compared():
    """Two seeds that do not choose are lucky at the worse rate: nothing is chosen by them."""
    study = plane(INIT, DEPTH, accuracy=lambda b, a, t: 0.6 if t == 1.0 else 0.4, tune=LR)
    lucky = (pl.col("tune") == 0.1) & pl.col("seed").is_in([1, 2])
    runs = study.runs.with_columns(
        pl.when(lucky).then(0.99).otherwise("test/accuracy").alias("test/accuracy")
    )
    found = cells(study.__class__(**{**vars(study), "runs": runs}), "MLP", "test/accuracy")
    assert found["seed"].unique().sort().to_list() == [1, 2, 4, 5, 7]
    assert set(found["tuned"]) == {1.0}
    assert found["value"].to_list() == pytest.approx([0.6] * len(found))


def test_what_is_not_finite_counts_as_the_worst():
    study = plane(INIT, DEPTH, accuracy=lambda b, a, t: 0.25 * (1 + (b == "a")))
    hit = (pl.col("by") == "b") & (pl.col("across") == 64)
    runs = study.runs.with_columns(
        pl.when(hit).then(float(np.nan)).otherwise(name).alias(name)
        for name in ("test/accuracy", "train/loss")
    )
    broken = study.__class__(**{**vars(study), "runs": runs})
    assert set(points(broken, "MLP", "test/accuracy")["b"][64].values()) == {0.0}
    assert set(points(broken, "MLP", "train/loss")["b"][64].values()) == {0.75}


def test_with_validation_data_nothing_is_chosen_by_what_is_reported():
    """The rate 1.0 is better on the test data, and 0.1 on those that were held out."""
    study = plane(INIT, DEPTH, accuracy=lambda b, a, t: 0.6 if t == 1.0 else 0.4, tune=LR)
    about = {**study.about, "splits": ["train", "validation", "test"]}
    runs = study.runs.with_columns(
        pl.when(pl.col("tune") == 0.1).then(0.9).otherwise(0.5).alias("validation/accuracy")
    )
    held_out = study.__class__(**{**vars(study), "runs": runs, "about": about})
    assert held_out.schema.selection == "validation/accuracy"
    found = cells(held_out, "MLP", "test/accuracy")
    assert set(found["tuned"]) == {0.1}
    assert found["value"].to_list() == pytest.approx([0.4] * len(found))


def test_a_diverged_run_is_no_better_than_the_worst_that_was_measured():
    """R² may be negative; then zero would be a good result."""
    study = plane(INIT, DEPTH)
    r2 = pl.when(pl.col("by") == "a").then(-2.5).otherwise(0.5).alias("test/r2")
    metrics = [{"name": "r2", "meaning": "R²", "unit": "1", "better": "higher"}]
    about = {**study.about, "metrics": metrics, "objective": "test/r2"}
    runs = study.runs.with_columns(r2)
    other = study.__class__(**{**vars(study), "runs": runs, "about": about})
    assert other.stand_in("test/r2") == -2.5
    assert study.stand_in("test/accuracy") == 0.0
