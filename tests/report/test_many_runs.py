"""Sweeps of more runs than a picture can show one by one."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
import vl_convert
from PIL import Image

from initstudy.report.charts.catalogue import CHARTS
from initstudy.report.charts.style import MOST_MARKS, thin
from initstudy.report.pictures import OPACITY, without_layers
from initstudy.store.frames import prepare
from tests.synthetic import sweep


@pytest.fixture(scope="module")
def many():
    return prepare(sweep(stds=np.geomspace(0.001, 0.9, 80), seeds=9, probes=False))


def said(spec):
    return " ".join(spec["title"]["subtitle"])


def marked(spec):
    """The runs that have a mark of their own, in any layer."""
    return {row["run"] for rows in _data(spec) for row in rows if "run" in row}


def _data(spec):
    return [
        json.loads(rows) if isinstance(rows, str) else rows for rows in spec["datasets"].values()
    ]


@pytest.mark.parametrize("name", ["accuracy", "parallel"])
def test_marks_are_thinned_and_the_chart_says_so(many, name):
    spec = CHARTS[name](many, "MLP")
    assert len(marked(spec)) == MOST_MARKS
    assert f"({MOST_MARKS} of 720 drawn)" in said(spec)


def test_nothing_is_thinned_where_every_mark_can_be_told(many):
    few = many.runs.head(MOST_MARKS)
    kept, words = thin(few)
    assert kept.equals(few)
    assert words == ""


def test_what_is_drawn_is_spread_evenly_over_the_studied_values(many):
    shuffled = many.runs.sample(fraction=1, shuffle=True, seed=1)
    kept, _ = thin(shuffled)
    counts = kept.group_by("by").len()["len"]
    assert counts.max() - counts.min() <= 1
    assert set(kept["run"]) == set(thin(many.runs)[0]["run"])


def test_statistics_count_every_run(many):
    spec = CHARTS["accuracy"](many, "MLP")
    by = many.runs["by"].min()
    expected = many.runs.filter(pl.col("by") == by)["test/accuracy"].mean()
    means = {row["by"]: row["mean"] for rows in _data(spec) for row in rows if "mean" in row}
    assert means[by] == pytest.approx(expected, rel=1e-5)


def test_pictures_look_the_same_without_a_layer_a_shape(many):
    svg = vl_convert.vegalite_to_svg(CHARTS["parallel"](many, "MLP"))
    assert len(OPACITY.findall(without_layers(svg))) < MOST_MARKS < len(OPACITY.findall(svg))
    before, after = (
        np.asarray(Image.open(io.BytesIO(vl_convert.svg_to_png(text))).convert("RGB")).astype(int)
        for text in (svg, without_layers(svg))
    )
    assert abs(before - after).mean() < 1
