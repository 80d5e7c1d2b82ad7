"""The charts, and the command that draws them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import polars as pl
import pytest

from initstudy import store as stores
from initstudy.report import write
from initstudy.report.charts.catalogue import CHARTS
from initstudy.report.charts.style import NothingToShow
from initstudy.store.frames import prepare
from tests.synthetic import STDS, save, sweep

LOSS = "test/loss"
# What needs probes=full.
FULL = ("weight_histograms", "activation_histograms")


def drawn(draw, study):
    """A chart, or None where it gives a sentence instead."""
    with contextlib.suppress(NothingToShow):
        return draw(study, "MLP")
    with pytest.raises(NothingToShow, match=r"\.$"):
        draw(study, "MLP")
    return None


@pytest.mark.parametrize(
    "truth",
    [
        {},
        {"seeds": 1, "stds": [0.1], "by": None},
        {"diverges": lambda std: True},
        {"probes": False},
        {"seeds": 11, "stds": STDS[::5]},
    ],
    ids=["grid", "one-run", "all-diverged", "no-probes", "many-seeds"],
)
def test_every_chart_is_drawn_or_says_why_not(truth):
    import vl_convert

    study = prepare(sweep(**truth))
    for name, draw in CHARTS.items():
        spec = drawn(draw, study)
        if spec is None:
            assert truth or name in FULL, name
            continue
        svg = vl_convert.vegalite_to_svg(spec)
        assert svg.count("<path") > 5, name
        assert "NaN" not in svg, name


def test_a_categorical_variable_is_drawn_in_its_order():
    runs = sweep(stds=[0.1]).runs
    kinds = [f"initstudy.initializers.{k}" for k in ("Normal", "Uniform", "Zero")]
    runs = runs.with_columns(pl.Series("init._target_", kinds))
    store = sweep(stds=[0.1])
    study = prepare(stores.Store(runs, store.history, store.study | {"by": "init._target_"}))
    assert not study.numeric
    assert '"type": "ordinal"' in str(CHARTS["accuracy"](study, "MLP")).replace("'", '"')


def test_null_is_a_value_of_a_key_that_may_be_null(tmp_path):
    source = sweep(stds=[0.1, 0.2, 0.3, 0.4])
    limits = pl.col("init.std").replace_strict({0.1: None, 0.2: 1.0, 0.3: None, 0.4: 1.0})
    runs = source.runs.with_columns(
        limits.cast(pl.Float64).alias("clip_norm"),
        pl.when(pl.col("init.std") < 0.25).then(None).otherwise(100).alias("data.validation"),
        pl.lit("cosine").alias("schedule.name"),
        pl.lit(7).alias("schedule.warmup"),
        pl.lit("highest").alias("precision"),
    ).drop("init.std")
    about = {"by": "clip_norm", "across": "data.validation"}
    store = stores.Store(runs, source.history, source.study | about | {"claims": {}})
    study = prepare(store)
    assert not study.numeric
    assert sorted(study.values()) == ["1", "null"]
    assert sorted(study.runs["across"].unique()) == ["100", "null"]
    report = write(save(store, tmp_path), formats=["markdown"])
    assert sorted(row[0] for row in report.table.rows) == ["1", "null"]
    text = (tmp_path / "report/README.md").read_text()
    assert "schedule cosine, warm-up of 7 steps, gradients clipped at a norm of null, 1" in text
    assert "precision" not in text.split("Trained on")[0]


def test_diverged_runs_are_on_the_accuracy_chart():
    study = prepare(sweep())
    text = str(CHARTS["accuracy"](study, "MLP"))
    lost = study.runs.filter("diverged").group_by("by").len()
    assert len(lost) == 3
    for std in lost["by"]:
        assert f'"by":{std}' in text
    assert "diverged" in text


def test_a_study_is_drawn_and_judged_by_its_own_objective(tmp_path):
    """Of a loss small values are good: the best choice has the smallest one, not the largest."""
    source = sweep(stds=[0.001, 0.1, 0.3, 3.0], by="init.kind", seeds=8)
    kinds = {0.001: "tiny", 0.1: "good", 0.3: "fair", 3.0: "huge"}
    runs = source.runs.with_columns(
        pl.col("init.std").replace_strict(kinds).alias("init.kind"),
        pl.col("init.std").replace_strict({0.001: 2.0, 0.1: 0.1, 0.3: 0.5, 3.0: 9.0}).alias(LOSS),
    ).drop("init.std")
    claim = {"_target_": "initstudy.claims.Better", "statement": "s", "better": "good"}
    about = {"objective": LOSS, "claims": {"best": claim | {"than": ["fair", "tiny"]}}}
    store = stores.Store(runs, source.history, source.study | about)
    study = prepare(store)
    assert study.values("MLP") == ["good", "fair", "tiny", "huge"]
    spec = CHARTS["accuracy"](study, "MLP")
    assert spec["title"]["text"].startswith("Test loss at the end")
    report = write(save(store, tmp_path), formats=[])
    assert [row[0] for row in report.table.rows] == ["good", "fair", "tiny", "huge"]
    assert "test loss" in report.table.columns
    (result,) = report.results
    assert (result.finding.verdict, result.finding.unit) == ("PASS", f"difference of {LOSS}")
    assert result.finding.estimate == pytest.approx(0.4)


def test_the_report_command_draws_again_and_refuses_what_is_no_sweep(tmp_path):
    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "initstudy.report", *arguments],
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )

    refused = command("nowhere")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "initstudy: nowhere: no such directory; give one that a study has written"
    )
    save(sweep(stds=STDS[::3]), tmp_path / "s")
    done = command("s", "--out", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    pictures = {p.name for p in (tmp_path / "elsewhere/charts").iterdir()}
    names = set(CHARTS) - set(FULL)
    assert pictures == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    readme = (tmp_path / "elsewhere/README.md").read_text()
    for name in names:
        assert f"(charts/{name}.png)" in readme


def test_a_store_of_another_version_is_named_in_one_line(tmp_path):
    old = sweep(stds=[0.1])
    runs = old.runs.drop("seed", "test/accuracy")
    with pytest.raises(stores.StoreError, match="it has no seed, test/accuracy; train it") as e:
        write(save(stores.Store(runs, old.history, old.study), tmp_path))
    assert "\n" not in str(e.value)
