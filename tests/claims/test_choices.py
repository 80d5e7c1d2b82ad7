"""Sweeps over initializers: who is better, and the charts that rank them."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from initstudy.claims import AtLeast, AtMost, Better, evaluate_study
from initstudy.report.charts.catalogue import CHARTS
from initstudy.report.page.words import table
from initstudy.store import Store
from initstudy.store.frames import prepare

TRUTH = {"he": 0.95, "xavier": 0.80, "lecun": 0.94, "zeros": 0.10}
LAYERS = ("fc1", "fc2", "head")


def zoo(truth=TRUTH, noise=0.01, seeds=8, facets=("relu",), claims=None, lost=(), by="init"):
    """A sweep over initializers whose accuracies are known; `lost` ones diverge."""
    rng = np.random.default_rng(0)
    runs, history = [], []
    for activation in facets:
        for number, (name, accuracy) in enumerate(truth.items()):
            for seed in range(seeds):
                run = f"{activation}{name}{seed}"
                value = float(np.clip(accuracy + noise * rng.standard_normal(), 0, 1))
                runs.append(
                    {
                        "run": run,
                        "init": name,
                        "model": "mlp",
                        "init._target_": f"x.{name}",
                        "init.gain": float(number) + (activation == "tanh"),
                        "seed": seed,
                        "model._target_": "x.MLP",
                        "model.activation": activation,
                        "data.name": "digits",
                        "optimizer.name": "sgd",
                        "optimizer.lr": 0.02,
                        "batch_size": 32,
                        "train/loss": 1 - value,
                        "test/loss": 1 - value,
                        "test/accuracy": math.nan if name in lost else value,
                        "diverged_step": 3 if name in lost else None,
                    }
                )
                for step in (0, 20):
                    row = {"run": run, "step": step, "train/loss": 2.3 - step / 20 * value}
                    for layer in LAYERS:
                        row[f"activation/{layer}/rms"] = 1.0 + number
                        row[f"gradient/{layer}/rms"] = 1.0 / (1 + number)
                        row[f"activation/{layer}/dead"] = number / 10
                    history.append(row)
    study = {"name": "zoo", "by": by, "claims": claims or {}, "layers": {"MLP": list(LAYERS)}}
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (runs, history))
    return prepare(Store(*frames, study))


def test_the_better_one_passes_with_the_size_of_the_difference():
    finding = Better("x", "he", "xavier").check(zoo(), "MLP")
    assert finding.verdict == "PASS"
    assert finding.interval.low < 0.155 + 0.002 < finding.interval.high
    assert finding.detail.startswith("test/accuracy: he 0.9")
    assert Better("x", "xavier", "he").check(zoo(), "MLP").verdict == "REFUTED"


def test_against_several_the_closest_decides():
    finding = Better("x", "he", ["xavier", "lecun", "zeros"]).check(zoo(noise=0.02), "MLP")
    assert finding.verdict == "UNDECIDED"
    assert finding.seeds_needed > 8
    assert "lecun" in finding.detail
    assert finding.interval.estimate < 0.1
    assert Better("x", "he", ["xavier", "zeros"]).check(zoo(), "MLP").verdict == "PASS"


def test_losses_count_the_other_way_and_a_diverged_run_as_told():
    loss = Better("x", "he", "xavier", metric="train/loss", higher_is_better=False)
    assert loss.check(zoo(), "MLP").verdict == "PASS"
    assert Better("x", "zeros", "he").check(zoo(lost=("he",)), "MLP").verdict == "PASS"


def test_at_most_needs_most_seeds_below():
    assert AtMost("x", "zeros", 0.2).check(zoo(), "MLP").verdict == "PASS"
    undecided = AtMost("x", "zeros", 0.101).check(zoo(), "MLP")
    assert (undecided.verdict, undecided.method) == ("UNDECIDED", "Clopper–Pearson, 6 of 8 seeds")
    assert AtMost("x", "he", 0.2).check(zoo(), "MLP").verdict == "REFUTED"


def test_at_least_needs_most_seeds_above():
    assert AtLeast("x", "he", 0.8).check(zoo(), "MLP").verdict == "PASS"
    assert AtLeast("x", "he", 0.949).check(zoo(), "MLP").verdict == "UNDECIDED"
    assert AtLeast("x", "he", 0.8).check(zoo(seeds=3), "MLP").seeds_needed == 6
    assert AtLeast("x", "he", 0.5).check(zoo(lost=("he",)), "MLP").verdict == "REFUTED"


def test_what_the_sweep_lacks_decides_nothing():
    assert Better("x", "he", "lsuv").check(zoo(), "MLP").verdict == "UNDECIDED"
    assert AtMost("x", "lsuv", 0.1).check(zoo(), "MLP").verdict == "UNDECIDED"
    assert Better("x", "he", "xavier").check(zoo(seeds=1), "MLP").verdict == "UNDECIDED"


def test_a_claim_is_checked_where_it_is_about():
    claim = {
        "_target_": "initstudy.claims.Better",
        "statement": "x",
        "better": "he",
        "than": "xavier",
    }
    claims = {"deep": claim | {"where": "MLP*relu*"}, "gone": claim | {"where": "CNN*"}}
    results = evaluate_study(zoo(facets=("relu", "tanh"), claims=claims))
    assert [(r.claim, r.facet, r.finding.verdict) for r in results] == [
        ("deep", "MLP, activation=relu", "PASS"),
        ("gone", "CNN*", "UNDECIDED"),
    ]
    assert results[1].finding.detail == "no part of the study is CNN*"


def test_an_initializers_own_arguments_make_no_facets_of_their_own():
    """The gain goes by initializer and activation: it follows from the facet and the choice."""
    assert zoo(facets=("relu", "tanh")).facets == ["MLP, activation=relu", "MLP, activation=tanh"]


def test_where_the_study_is_about_something_else_a_choice_is_one_facet_by_its_name():
    study = zoo(truth={"he": 0.9, "xavier": 0.8}, by="seed")
    assert study.facets == ["MLP, init=he", "MLP, init=xavier"]


def test_choices_are_ranked_in_chart_and_table_with_every_run_and_interval():
    study = zoo(lost=("xavier",))
    assert study.values("MLP") == ["he", "lecun", "zeros", "xavier"]
    assert [row[0] for row in table(study).rows] == ["he", "lecun", "zeros", "xavier"]
    spec = CHARTS["accuracy"](study, "MLP")
    text = str(spec)
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["he", "lecun", "zeros", "xavier"]
    for run in study.runs.filter(~pl.col("diverged"))["run"]:
        assert run in text
    assert '"by":"xavier","runs":8' in text


@pytest.mark.parametrize("name", ["loss", "accuracy", "activations", "gradients", "dead_saturated"])
def test_every_chart_of_choices_is_drawn(name):
    import vl_convert

    svg = vl_convert.vegalite_to_svg(CHARTS[name](zoo(), "MLP"))
    assert svg.count("<path") > 5
    assert "NaN" not in svg
    assert all(choice in svg for choice in TRUTH)
