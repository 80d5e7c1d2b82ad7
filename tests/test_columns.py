"""The one schema of columns: what measures, stores, draws and documents agrees with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from initstudy import columns, store
from initstudy.columns import SCHEMA, Metric, Schema

ROOT = Path(__file__).parent.parent


def test_the_documented_table_is_this_one():
    document = ROOT / "docs/columns.md"
    assert document.read_text() == columns.page(), (
        "run: python -m initstudy.columns > docs/columns.md"
    )


def test_every_column_is_defined_once():
    names = [column.name for column in SCHEMA]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("preset", ["basic", "full"])
def test_a_study_writes_the_columns_of_its_preset_and_no_other(command, preset):
    code, *_ = command(
        "model.activation=tanh", "max_steps=5", "data.subset=200", "tracking=off",
        f"probes={preset}", "name=one",
    )  # fmt: skip
    assert code == 0
    loaded = store.load("runs/one")
    written = {
        column.name
        for name in loaded.history.columns
        if (column := SCHEMA.find(name)) and column.per_layer
    }
    presets = columns.PRESETS[: columns.PRESETS.index(preset) + 1]
    assert written == {column.name for column in columns.PROBES if column.preset in presets}
    unknown = [name for name in loaded.history.columns if SCHEMA.find(name) is None]
    assert unknown == []
    measured = [name for name in loaded.runs.columns if "/" in name]
    assert [name for name in measured if SCHEMA.find(name) is None] == []
    summary = {column.name for column in SCHEMA.measured if column.summary}
    assert summary <= set(loaded.runs.columns)


def test_a_layer_keeps_the_dots_and_slashes_of_its_name():
    for layer in ("fc1", "encoder.0.self_attn", "a/b"):
        name = columns.WEIGHT_UPDATE_RATIO.of(layer)
        assert SCHEMA.find(name) is columns.WEIGHT_UPDATE_RATIO
        assert columns.layer_of(name) == layer
    assert columns.layer_of("train/loss") is columns.layer_of("init.std") is None
    assert SCHEMA.find("activation/fc1/other") is SCHEMA.find("loss/fc1/rms") is None


def test_histograms_hold_every_finite_float32():
    edges = columns.HISTOGRAM_EDGES
    assert edges[-1] == torch.finfo(torch.float32).max == float(np.finfo(np.float32).max)
    assert list(edges) == sorted(edges)
    assert edges[0] == 0.0


def test_a_study_states_its_own_metrics_and_objective():
    r2 = Metric("r2", "explained fraction of the variance", "", "higher")
    schema = Schema((columns.LOSS, r2), objective="test/r2")
    assert Schema.described(schema.description()) == schema
    assert [schema.better(name) for name in ("test/r2", "best/test/r2", "train/loss")] == [
        "higher",
        "higher",
        "lower",
    ]
    assert schema.find("test/accuracy") is None
    assert Schema.described({}) == SCHEMA
    assert Schema.described({"objective": "test/loss"}).better("best/test/loss") == "lower"


def test_a_frame_of_an_unknown_metric_has_a_type_all_the_same(tmp_path):
    store.write_pack(
        tmp_path, "p", [{"run": "a", "test/r2": 1}], [{"run": "a", "step": 0, "test/r2": 1}]
    )
    assert store.load(tmp_path).history["test/r2"].dtype == pl.Float64


@pytest.mark.parametrize("unwanted", ["torch", "polars"])
def test_the_schema_loads_neither_torch_nor_polars(unwanted):
    code = f"import sys, initstudy.columns; sys.exit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
