"""Offline W&B runs, read back by wandb's own reader and held against those of its own client."""

from __future__ import annotations

import math

import polars as pl
import pytest

from initstudy.columns import HISTOGRAM_EDGES
from initstudy.tracking import Settings
from initstudy.tracking.offline import BLOCK, Destination, write_run
from initstudy.tracking.pending import Mirrored
from initstudy.tracking.worker import Worker, _log_row
from tests.tracking.test_tracker import records

COUNTS = [1] * (len(HISTOGRAM_EDGES) - 1)
CONFIG = {"init": {"std": 0.1, "kinds": [1, "a"]}, "seed": 3, "data.subset": None, "é": "ü"}
ROWS = [
    {"step": 0, "train/loss": 2.5, "a/b": 1e-30, "n": math.nan, "h": COUNTS, "i": 2},
    {"step": 20, "train/loss": 1.5, "a/b": None, "n": math.inf, "h": None, "i": 3},
    {"step": 40, "train/loss": 2.0, "a/b": 1e300, "n": -math.inf, "h": None, "i": None},
]
ENDS = {"train/loss": 2.0, "test/accuracy": 0.25, "diverged_step": None, "device": "cpu"}
TIMES = ("_timestamp", "_runtime", "_wandb.runtime")


def ours(folder, rows, run="abc123"):
    to = Destination(Settings("offline", "mine", "me"), "group", folder)
    history = pl.DataFrame([{"run": run, **row} for row in rows], infer_schema_length=None)
    written = write_run(to, Mirrored(run, "std=0.1 é", CONFIG, ENDS), history)
    return records(written / f"run-{run}.wandb")


def theirs(folder):
    worker = Worker(Settings("offline", "mine", "me"), folder, "group", set())
    opened = worker._open("abc123", CONFIG, "std=0.1 é")
    for row in ROWS:
        _log_row(opened, row["step"], {k: v for k, v in row.items() if k != "step"})
    opened.summary.update({k: v for k, v in ENDS.items() if v is not None})
    opened.finish()
    (file,) = folder.glob("wandb/offline-run-*-abc123/run-abc123.wandb")
    return records(file)


def of(found, kind):
    return [record[kind] for record in found if record["type"] == kind]


def summary(found):
    merged = {}
    for record in of(found, "summary"):
        merged |= record["update"]
    return {key: value for key, value in merged.items() if key not in TIMES}


def test_files_hold_what_the_clients_own_hold(tmp_path):
    mine, client = ours(tmp_path / "mine", ROWS), theirs(tmp_path)
    items = [
        [{k: v for k, v in row["item"].items() if k not in TIMES} for row in of(found, "history")]
        for found in (mine, client)
    ]
    assert items[0] == items[1]
    assert [row["step"] for row in of(mine, "history")] == [
        row["step"] for row in of(client, "history")
    ]
    assert of(mine, "metric") == of(client, "metric")
    assert summary(mine) == summary(client)
    ((run,), (expected,)) = of(mine, "run"), of(client, "run")
    told = ("run_id", "project", "entity", "display_name", "run_group", "config")
    assert {key: run[key] for key in told} == {key: expected[key] for key in told}
    assert of(mine, "exit")


@pytest.mark.parametrize("over", [-20, -8, -7, -1, 0, 1, 8, 2 * BLOCK])
def test_records_of_any_length_are_read_back(tmp_path, over):
    rows = [{"step": step, "text": "x" * (BLOCK // 2 + over // 2)} for step in range(7)]
    found = of(ours(tmp_path, rows), "history")
    assert [row["item"]["text"] for row in found] == [row["text"] for row in rows]
