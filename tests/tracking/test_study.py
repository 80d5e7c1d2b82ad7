"""A sweep's own W&B run: in files, and on a stand-in server."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from initstudy import store, tracking
from initstudy.claims.evaluation import Result
from initstudy.claims.finding import Finding
from initstudy.claims.statistics import mean_interval
from initstudy.claims.worse_than_best import BELOW_ZERO
from initstudy.tracking import Settings, StudyRecord, Tracker, check
from initstudy.tracking.study import study_id
from tests.tracking.test_tracker import inspect

SPEC = {"mark": "bar", "data": {"values": [{"x": 1}]}}
FINDINGS = [
    Finding.undecided("difference", "one seed alone"),
    Finding.judged(mean_interval([-0.5, -0.6, -0.4]), BELOW_ZERO, "difference", "it hurts"),
    Finding.undecided("difference", "the seeds scatter", seeds_needed=5),
]
CLAIMS = [Result("hurts", "MLP", "It hurts.", finding).as_row() for finding in FINDINGS]


def record(directory: Path) -> StudyRecord:
    runs = [{"run": run, "init.std": 0.1, "test/accuracy": 0.9} for run in ("aaa", "bbb")]
    store.write_pack(directory, "p", runs, [{"run": "aaa", "step": 0}])
    store.write_study(directory, {"name": "grid"})
    page = directory / "index.html"
    page.write_text("<!doctype html><title>report</title>")
    return StudyRecord(
        directory, page, "2 of 2 claims hold", CLAIMS, {"loss": SPEC}, {}, pl.DataFrame(runs)
    )


def test_offline_it_holds_the_report_the_claims_and_the_store(tmp_path):
    with Tracker(Settings("offline"), tmp_path, "grid") as tracker:
        tracker.study(record(tmp_path))
    records = inspect(tmp_path, study_id("grid"))
    (about,) = (r["run"] for r in records if r["type"] == "run")
    assert (about["job_type"], about["run_group"]) == ("study", "grid")
    artifacts = {r["artifact"]["name"]: r["artifact"] for r in records if r["type"] == "artifact"}
    assert {"grid-store", "grid-report"} <= set(artifacts)
    assert json.loads(artifacts["grid-store"]["metadata"]) == {
        "group": "grid",
        "runs": ["aaa", "bbb"],
    }
    kept = {entry["path"] for entry in artifacts["grid-store"]["manifest"]["contents"]}
    assert {"store/p.runs.parquet", "store/p.history.parquet", "study.json"} <= kept
    (history,) = (r["history"]["item"] for r in records if r["type"] == "history")
    assert history["report._type"] == "html-file"
    assert (history["claims.nrows"], history["runs.nrows"]) == (3, 2)


def test_online_its_store_is_an_output_of_every_member(server, tmp_path):
    with Tracker(check(Settings("online", "p")), tmp_path, "grid") as tracker:
        tracker.study(record(tmp_path))
    assert tracker.address == f"{server.url}/team/p"
    assert server.buckets[study_id("grid")]["jobType"] == "study"
    assert sorted(server.producers["grid-store"]) == ["aaa", "bbb", study_id("grid")]
    assert server.charts == {"initstudy-grid-loss": SPEC}
    assert server.summary[study_id("grid")]["headline"] == "2 of 2 claims hold"
    counted = [server.summary[study_id("grid")][f"verdicts/{v}"] for v in ("PASS", "UNDECIDED")]
    assert counted == [1, 2]


def test_of_thousands_of_runs_the_study_alone_is_a_wandb_run(command, monkeypatch):
    def report(console, directory, tracker):
        tracker.study(record(Path(directory)))

    monkeypatch.setattr("initstudy.scheduling.study._report", report)
    grid = ["-m", "seed=0,1,2", "max_steps=2", "data.subset=64", "name=grid"]
    assert command(*grid, "tracking.granularity=study")[0] == 0
    assert [p.name.split("-", 3)[-1] for p in Path("runs/grid/wandb").glob("*run-*")] == [
        study_id("grid")
    ]
    code, _, err = command(*grid, "tracking.granularity=sweep")
    assert code == 2
    assert "tracking.granularity=sweep: choose one of run, study" in err


def test_a_server_that_refuses_the_study_costs_nothing_but_a_line(
    server, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(tracking.worker, "INIT_TIMEOUT", 3.0)
    settings = check(Settings("online", "p"))
    server.fault = 401
    with Tracker(settings, tmp_path, "grid") as tracker:
        tracker.study(record(tmp_path))
    assert "W&B: study of" in caplog.text
