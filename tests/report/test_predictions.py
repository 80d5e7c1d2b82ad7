"""Theory behind the points: the lines, the figure of agreement, and charts without it."""

from __future__ import annotations

import polars as pl
import pytest

from initstudy.report.charts.catalogue import CHARTS
from initstudy.store import Store
from initstudy.store.frames import prepare
from tests.synthetic import LAYERS, sweep


def with_theory(factor):
    """A sweep whose measured values are `factor` times what theory says."""
    store = sweep()
    columns = [
        (pl.col(f"{kind}/{layer}/rms") / factor).alias(f"{kind}/{layer}/theory")
        for kind in ("activation", "gradient")
        for layer in LAYERS
    ]
    history = store.history.with_columns(columns)
    runs = store.runs.with_columns(pl.lit(0.25).alias("theory/critical_std"))
    return prepare(Store(runs, history, store.study))


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_figure_of_agreement_is_the_median_deviation(factor):
    for name in ("activations", "gradients"):
        text = str(CHARTS[name](with_theory(factor), "MLP"))
        assert f"lies {factor - 1:.1%} from it" in text.replace("', '", " ")
        assert "strokeDash" in text


def test_the_critical_deviation_is_marked_where_it_is_known():
    spec = CHARTS["accuracy"](with_theory(1.0), "MLP")
    rule = spec["layer"][0]
    assert rule["mark"]["type"] == "rule"
    assert '[{"by":0.25}]' in str(spec["datasets"][rule["data"]["name"]])
    assert "critical std, 0.25" in " ".join(spec["title"]["subtitle"])


def test_without_theory_the_charts_are_as_they_were():
    study = prepare(sweep())
    for name in ("activations", "gradients", "accuracy"):
        text = str(CHARTS[name](study, "MLP"))
        assert "theory" not in text
