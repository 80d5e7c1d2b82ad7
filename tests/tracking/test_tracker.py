"""The mirror to W&B, with the real client: into files, and to a stand-in server on loopback."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from initstudy import store
from initstudy.columns import HISTOGRAM_EDGES
from initstudy.config import Run
from initstudy.tracking import Settings, Tracker, check, worker
from tests.wandb_server import KEY, WandbServer

CONFIG = {"init": {"_target_": "initstudy.initializers.Normal", "std": 0.1}, "seed": 2}
COUNTS = [0] * (len(HISTOGRAM_EDGES) - 2) + [5]
RUNS = [Run(CONFIG, (f"std={n}",), n) for n in ("aaa111", "bbb222")]
ENDS = {"test/accuracy": 0.9, "diverged_step": None, "best": 0.95}
WANDB = Path(sys.executable).with_name("wandb")


def values(step):
    return {
        "train/loss": 2.0 - step,
        "activation/fc1/rms": 0.5,
        "test/accuracy": None,
        "gradient/fc1/rms": math.nan if step == 1 else 0.1,
        "weight/fc1/histogram": COUNTS,
    }


def begin(tracker: Tracker, rows: int) -> None:
    for run in RUNS:
        tracker.start(run.id, run.config, run.label)
    for step in range(rows):
        for run in RUNS:
            tracker.log(run.id, step * 20, values(step))


def complete(tracker: Tracker, directory: Path, rows: int) -> float:
    """What is done at a pack's end: promised, stored, finished; the seconds that the last took."""
    tracker.promise("pack", [(run, run.config, ENDS) for run in RUNS])
    history = [{"run": r.id, "step": s * 20, **values(s)} for r in RUNS for s in range(rows)]
    store.write_pack(directory, "pack", [{"run": run.id} for run in RUNS], history)
    before = time.monotonic()
    tracker.finish("pack")
    return time.monotonic() - before


def log_two_runs(directory: Path, settings: Settings, rows: int = 3) -> None:
    with Tracker(settings, directory, group="std_grid") as tracker:
        begin(tracker, rows)
        complete(tracker, directory, rows)


def records(file: Path) -> list[dict]:
    """The records of a run as wandb's own reader prints them."""
    done = subprocess.run(
        [str(WANDB), "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def inspect(directory: Path, run: str) -> list[dict]:
    (file,) = directory.glob(f"wandb/*run-*-{run}/run-{run}.wandb")
    return records(file)


def steps_on_disk(directory: Path, run: str) -> list[int]:
    """The steps of a run in all of its files together."""
    files = directory.glob(f"wandb/*run-*-{run}/run-{run}.wandb")
    rows = [r for file in files for r in records(file) if r.get("type") == "history"]
    return sorted(row["history"]["item"]["step"] for row in rows)


def test_offline_runs_hold_what_was_logged(tmp_path):
    log_two_runs(tmp_path, Settings("offline", project="p"))
    for run in ("aaa111", "bbb222"):
        records = inspect(tmp_path, run)
        text = json.dumps(records)
        history = [r for r in records if r.get("type") == "history"]
        assert len(history) == 3
        flat = json.dumps(history[1])
        for value in ("train/loss", "activation/fc1/rms", "NaN", "histogram"):
            assert value in flat
        assert "test/accuracy" not in flat
        for value in ("std_grid", "initstudy.initializers.Normal", "0.95", run):
            assert value in text
        # Every metric has `step` as its axis, so a dashboard needs no setting up.
        assert any(r.get("type") == "metric" for r in records)
        assert "step" in json.dumps([r for r in records if r.get("type") == "metric"])


def test_environment_variables_win_as_wandbs_users_expect(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert check(Settings("online", "mine")) == Settings("off", "theirs", "team")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert check(Settings("online", "mine")).mode == "offline"
    monkeypatch.setenv("WANDB_MODE", "sideways")
    with pytest.raises(ValueError, match="WANDB_MODE=sideways: choose one of"):
        check(Settings())


def test_online_without_a_key_is_refused_before_any_training():
    with pytest.raises(ValueError, match=r"tracking\.mode=online: no W&B key; run `wandb login`"):
        check(Settings("online"))


def test_a_key_in_netrc_is_found_without_asking_the_server(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    (Path.home() / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEY}\n")
    assert check(Settings("online")).mode == "online"


def test_off_leaves_no_trace(tmp_path):
    log_two_runs(tmp_path, Settings("off"))
    assert [folder.name for folder in tmp_path.iterdir()] == ["store"]


def test_online_rows_arrive_once_under_the_runs_own_id(server, tmp_path):
    settings = check(Settings("online", "p"))
    log_two_runs(tmp_path / "first", settings)
    assert {u["name"] for u in server.upserts} == {"aaa111", "bbb222"}
    # The client says the group when it opens a run, and leaves it out when it updates one.
    assert {u["groupName"] for u in server.upserts} - {None} == {"std_grid"}
    rows = server.rows("aaa111")
    assert [row["step"] for row in rows] == [0, 20, 40]
    assert [row["train/loss"] for row in rows] == [2.0, 1.0, 0.0]
    assert server.summary["aaa111"]["test/accuracy"] == 0.9
    assert server.complete == {"aaa111", "bbb222"}
    assert not list((tmp_path / "first/wandb-pending").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["training", "promised", "stored", "taken in"])
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_what_a_kill_left_out_is_sent_when_the_sweep_goes_on_and_nothing_twice(
    server, tmp_path, mode, moment
):
    script = f"""
        import os, signal, sys, time
        from tests.tracking.test_tracker import *
        path = Path(sys.argv[1])
        tracker = Tracker(check(Settings({mode!r}, "p")), path, group="g").__enter__()
        begin(tracker, 4)
        if {moment!r} != "training":
            tracker.promise("pack", [(run, run.config, ENDS) for run in RUNS])
        if {moment!r} in ("stored", "taken in"):
            rows = [{{"run": r.id, "step": s * 20, **values(s)}} for r in RUNS for s in range(6)]
            store.write_pack(path, "pack", [{{"run": run.id}} for run in RUNS], rows)
        print("there", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == b"there\n"
        # The client gathers rows for fifteen seconds: one case waits for them, the others do not.
        while (mode, moment) == ("online", "training") and not server.rows("bbb222"):
            time.sleep(0.05)
        process.kill()
    process.wait()
    settings = check(Settings(mode, "p"))
    with Tracker(settings, tmp_path, group="g") as tracker:
        if moment == "taken in":
            # The head did not come to note that it has taken in what a worker had stored.
            tracker.promise("pack", [(run, run.config, ENDS) for run in RUNS])
            tracker.finish("pack")
        elif moment != "stored":
            begin(tracker, 6)
            complete(tracker, tmp_path, 6)
    for run in RUNS:
        if mode == "online":
            assert [row["step"] for row in server.rows(run.id)] == [0, 20, 40, 60, 80, 100]
            assert server.summary[run.id]["test/accuracy"] == 0.9
        else:
            assert steps_on_disk(tmp_path, run.id) == [0, 20, 40, 60, 80, 100]
    assert not list((tmp_path / "wandb-pending").iterdir())


def test_rows_that_find_no_room_are_sent_from_the_store(server, tmp_path, monkeypatch):
    monkeypatch.setattr("initstudy.tracking.tracker.BACKLOG", 5)
    log_two_runs(tmp_path, check(Settings("online", "p")), rows=40)
    for run in RUNS:
        assert [row["step"] for row in server.rows(run.id)] == list(range(0, 800, 20))


def reached(server: WandbServer, rows: bool) -> set[str]:
    """The runs that a server has heard of, or of which it has rows."""
    heard = {upsert["name"] for upsert in server.upserts}
    return {run for run in heard if server.history[run]} if rows else heard


FAULTS = ["hang", "drop", 401, 429, 500]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["start", "middle"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_holds_up_no_training_and_costs_no_row(
    server, tmp_path, monkeypatch, fault, moment
):
    monkeypatch.setattr(worker, "INIT_TIMEOUT", 3.0)
    monkeypatch.setattr(worker, "FINISH_TIMEOUT", 3.0)
    settings = check(Settings("online", "p"))
    server.fault = fault if moment == "start" else None
    begun = time.monotonic()
    waited = 0.0
    with Tracker(settings, tmp_path, group="g") as tracker:
        for run in RUNS:
            tracker.start(run.id, run.config, run.label)
        for run in RUNS:
            tracker.log(run.id, 0, values(0))
        # The client gathers rows for fifteen seconds: one case waits for them, the others do not.
        while moment == "middle" and len(reached(server, rows=fault == 500)) < 2:
            time.sleep(0.1)
        server.fault = fault
        for step in range(1, 10):
            before = time.monotonic()
            for run in RUNS:
                tracker.log(run.id, step * 20, values(step))
            waited += time.monotonic() - before
            time.sleep(0.01)
        # Without what the disk takes, which may be busy for seconds.
        waited += complete(tracker, tmp_path, 10)
    # The client gives up after three seconds: whoever waits for it waits longer than that.
    assert waited < 2.5
    assert time.monotonic() - begun < 60
    for run in RUNS:
        assert steps_on_disk(tmp_path, run.id) == list(range(0, 200, 20))
    server.fault = None
    if moment == "middle":
        # What the server has of a run is known to it alone: the same command asks and goes on.
        with Tracker(settings, tmp_path, group="g"):
            pass
    else:
        folders = [str(folder) for folder in tmp_path.glob("wandb/offline-run-*")]
        sync = [str(WANDB), "sync", "--yes", *folders]
        subprocess.run(sync, cwd=tmp_path, capture_output=True, check=True)
    for run in RUNS:
        assert [row["step"] for row in server.rows(run.id)] == list(range(0, 200, 20))
    assert not list((tmp_path / "wandb-pending").iterdir())


@pytest.mark.slow
def test_a_server_that_goes_away_costs_no_row_and_little_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "FINISH_TIMEOUT", 3.0)
    settings = check(Settings("online", "p"))
    begun = time.monotonic()
    with Tracker(settings, tmp_path, group="g") as tracker:
        begin(tracker, 10)
        while len(server.upserts) < 2:
            assert time.monotonic() < begun + 30
            time.sleep(0.05)
        server.stop()
        complete(tracker, tmp_path, 20)
    assert time.monotonic() - begun < 40
    for run in RUNS:
        assert steps_on_disk(tmp_path, run.id)[:10] == list(range(0, 200, 20))
