"""The mirror to W&B, with the real client: into files, and to a stand-in server on loopback."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from initstudy import tracking
from initstudy.ensemble import HISTOGRAM_EDGES
from initstudy.tracking import Settings, Tracker, check
from tests.wandb_server import KEY, WandbServer

CONFIG = {"init": {"_target_": "initstudy.initializers.Normal", "std": 0.1}, "seed": 2}
COUNTS = [0] * (len(HISTOGRAM_EDGES) - 2) + [5]
WANDB = Path(sys.executable).with_name("wandb")


def log_two_runs(directory: Path, settings: Settings, rows: int = 3) -> None:
    with Tracker(settings, directory, group="std_grid") as tracker:
        for run in ("aaa111", "bbb222"):
            tracker.start(run, CONFIG, f"std=0.1 {run}")
        for step in range(rows):
            for run in ("aaa111", "bbb222"):
                tracker.log(
                    run, step * 20,
                    {"train/loss": 2.0 - step, "activation/fc1/rms": 0.5, "test/accuracy": None,
                     "gradient/fc1/rms": math.nan if step == 1 else 0.1,
                     "weight/fc1/histogram": COUNTS},
                )  # fmt: skip
        for run in ("aaa111", "bbb222"):
            tracker.finish(run, {"test/accuracy": 0.9, "diverged_step": None, "best": 0.95})


def inspect(directory: Path, run: str) -> list[dict]:
    """The records of a run as wandb's own reader prints them."""
    (file,) = directory.glob(f"wandb/*run-*-{run}/run-{run}.wandb")
    done = subprocess.run(
        [str(WANDB), "leet", "inspect", "--json", str(file)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


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
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEY}\n")
    assert check(Settings("online")).mode == "online"


def test_off_leaves_no_trace(tmp_path):
    log_two_runs(tmp_path, Settings("off"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(monkeypatch):
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


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


def test_a_server_that_goes_away_costs_no_row_and_little_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "FINISH_TIMEOUT", 3.0)
    settings = check(Settings("online", "p"))
    begun = time.monotonic()
    with Tracker(settings, tmp_path, group="g") as tracker:
        tracker.start("aaa111", CONFIG, "one")
        for step in range(10):
            tracker.log("aaa111", step, {"train/loss": float(step)})
        while not server.upserts:
            assert time.monotonic() < begun + 30
            time.sleep(0.05)
        server.stop()
        for step in range(10, 20):
            tracker.log("aaa111", step, {"train/loss": float(step)})
        tracker.finish("aaa111", {"test/accuracy": 0.5})
    assert time.monotonic() - begun < 40
    history = [r for r in inspect(tmp_path, "aaa111") if r.get("type") == "history"]
    assert len(history) == 20


@pytest.fixture(autouse=True)
def _fresh_service():
    """wandb keeps one service process; each test's environment needs its own."""
    yield
    import wandb

    wandb.teardown()
