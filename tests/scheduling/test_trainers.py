"""Packs that train side by side, in forks of the command."""

from __future__ import annotations

import importlib
import json
import os
import signal
import textwrap
from pathlib import Path

import polars as pl
import pytest
import torch
from initstudy.scheduling.backends.forked import RemoteError
from initstudy.scheduling.backends.forks import Fork, LostError, Pool
from initstudy.scheduling.execute import execute
from polars.testing import assert_frame_equal

from initstudy import store
from initstudy.engine.state import State
from initstudy.engine.train import Row
from initstudy.scheduling.autotune import Autotuner
from initstudy.training.group import Pack
from initstudy.training.pack import Resumption, train_pack
from tests.clusters import assert_same_results, head, results, wait_for
from tests.scheduling.forks import FORKS, GRID, SMALL, is_gone, small_pack
from tests.users_own import MINE

CPU = torch.device("cpu")


def weights(directory: Path) -> dict[str, bytes]:
    files = directory.glob("runs/*/*.safetensors")
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


@pytest.mark.parametrize("model", ["model.width=16", "model._target_=mine_forked.Dropping"])
def test_forks_give_what_one_process_gives_to_the_last_bit(command, tmp_path, model):
    (tmp_path / "mine_forked.py").write_text(textwrap.dedent(MINE))
    grid = [
        "-m",
        model,
        "init.std=0.1,0.3,20",
        "seed=0,1",
        "planner.pack_size=2",
        "save_weights=both",
        *SMALL,
    ]
    assert command(*grid, "planner.workers=1", "name=alone")[0] == 0
    code, out, _ = command(*grid, "planner.workers=2", "name=forked")
    assert code == 0
    assert "in 3 packs on 2 processes on cpu" in out
    assert_same_results(Path("runs/forked"), Path("runs/alone"), runs=6)
    assert len(weights(Path("runs/alone"))) == 12
    assert weights(Path("runs/forked")) == weights(Path("runs/alone"))


@pytest.mark.parametrize(("size", "workers"), [(1, 1), (1, 2), (3, 2), (6, 1)])
def test_how_runs_are_spread_changes_results_by_rounding_only(command, size, workers):
    grid = ["-m", "model.width=16", "init.std=0.1,0.3,0.5", "seed=0,1", *SMALL]
    command(*grid, "planner.pack_size=2", "planner.workers=1", "name=twos")
    spread = [f"planner.pack_size={size}", f"planner.workers={workers}"]
    assert command(*grid, *spread, "name=spread")[0] == 0
    for ours, theirs in zip(*(results(Path("runs") / n) for n in ("spread", "twos")), strict=True):
        numbers = [name for name, kind in theirs.schema.items() if kind.is_float()]
        assert_frame_equal(ours[numbers], theirs[numbers], rel_tol=2e-4, abs_tol=1e-6)
        assert ours["run"].to_list() == theirs["run"].to_list()


@pytest.fixture
def pack():
    return small_pack()


@pytest.fixture
def fork(pack):
    """Made after the pack, whose group it has from this process."""
    made = Fork()
    yield made
    made.close()


def test_a_state_from_a_fork_stays_what_it_was_while_training_goes_on(fork, pack):
    expected = {}
    for item in train_pack(pack, CPU, Resumption(due=lambda: True)):
        if isinstance(item, State):
            expected[item.step] = {name: t.clone() for name, t in item.tensors.items()}
    received = [i for i in fork.train(pack, Resumption(), every=0) if isinstance(i, State)]
    assert [state.step for state in received] == list(expected)
    assert len(received) > 5
    for state in received:
        assert state.tensors.keys() == expected[state.step].keys()
        for name, tensor in state.tensors.items():
            assert torch.equal(tensor, expected[state.step][name]), (state.step, name)


def test_a_fork_that_was_left_in_the_middle_answers_the_next_request(fork, pack):
    whole = [item for item in train_pack(pack, CPU) if isinstance(item, Row)]
    for _ in fork.train(pack, Resumption(), every=0):
        break
    again = [item for item in fork.train(pack, Resumption()) if isinstance(item, Row)]
    assert [(row.member, row.step) for row in again] == [(row.member, row.step) for row in whole]


def test_a_fork_that_is_killed_says_how_and_is_replaced(fork, pack):
    first = fork.process
    os.kill(first, signal.SIGKILL)
    with pytest.raises(LostError, match="by signal 9"):
        list(fork.train(pack, Resumption()))
    assert list(fork.train(pack, Resumption()))
    assert fork.process != first
    assert is_gone(first)


def test_a_trial_that_forks_cannot_do_spoils_no_other(held, monkeypatch):
    """As for want of memory: no answer to it is taken for one to what is asked next."""
    monkeypatch.syspath_prepend(str(held))
    raising, pack = small_pack("model._target_=held.Raising"), small_pack()
    # It is the head that has imported the module first.
    assert os.getpid() == importlib.import_module("held").HEAD
    with Pool() as pool:
        with pytest.raises(RemoteError, match="ArithmeticError: not in a fork"):
            pool.speed(raising, 2)
        assert pool.speed(pack, 2) > 0
        rows = [i for i in pool.forks[1].train(pack, Resumption()) if isinstance(i, Row)]
        assert {row.step for row in rows} >= {0, 6, 12, 24}
        pids = [fork.process for fork in pool.forks]
    assert all(is_gone(pid) for pid in pids)


class Listener:
    """A tracker and a counter that let forks go on as soon as every run has told of a row."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.heard: set[str] = set()

    def log(self, run: str, step: int, row: dict) -> None:
        self.heard.add(run)
        if len(self.heard) == self.runs:
            Path("hold").unlink(missing_ok=True)

    def __getattr__(self, name: str):
        return lambda *given, **named: None


def test_rows_come_while_packs_still_train(held, monkeypatch):
    """The forks wait after some steps until somebody has heard of what was before."""
    monkeypatch.chdir(held)
    monkeypatch.syspath_prepend(str(held))
    pack = small_pack("model._target_=held.Telling", "log_every=1")
    packs = [Pack(pack.group, pack.runs[:2]), Pack(pack.group, pack.runs[2:])]
    Path("hold").touch()
    listener = Listener(runs=4)
    with Pool() as pool:
        failed = execute(packs, Path("runs"), CPU, listener, listener, pool, workers=2)
    assert failed == {}
    assert len(listener.heard) == 4


def test_wandb_has_rows_while_packs_still_train(held, server):
    (held / "hold").touch()
    online = [a for a in SMALL if a != "tracking=off"] + ["tracking=online", "log_every=1"]
    telling = [a.replace("held.Held", "held.Telling") for a in GRID]
    with head(held, *telling, *online, *FORKS, "name=grid") as study:
        wait_for(lambda: study.process.poll() is not None or len(server.history) == 4)
        wait_for(lambda: all(len(rows) > 0 for rows in server.history.values()))
        assert study.process.poll() is None, study.said()
        assert not store.finished(held / "runs/grid")
        (held / "hold").unlink()
        assert study.wait() == 0, study.said()
    history = store.load(held / "runs/grid").history
    for run, ours in history.partition_by("run", as_dict=True).items():
        rows = server.rows(run[0])
        assert [row["train/loss"] for row in rows] == ours.sort("step")["train/loss"].to_list()


def test_what_was_chosen_and_measured_is_in_the_study_and_remembered(
    command, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("initstudy.scheduling.autotune.WORTH_MEASURING", 0.0)
    monkeypatch.setattr("initstudy.training.pack.SECONDS_OF_A_TRIAL", 0.01)
    monkeypatch.setattr(Autotuner, "_cores", lambda self: 2)
    grid = ["-m", "model.width=8", "seed=range(6)", *SMALL]

    def choice(name: str) -> dict:
        (found,) = json.loads(Path(f"runs/{name}/study.json").read_text())["planner"].values()
        return found

    assert command(*grid, "planner.timing=remembered", "name=first")[0] == 0
    first = choice("first")
    assert {name.partition("x")[0] for name in first["rates"]} == {"1", "2"}
    assert "2x1" in first["rates"]
    assert f"{first['workers']}x{first['pack_size']}" in first["rates"]
    (remembered,) = json.loads(Path("cache/initstudy/planner.json").read_text()).values()
    assert remembered == first["rates"]
    # A time that was measured again would not be the same to the last bit.
    assert command(*grid, "planner.timing=remembered", "name=second")[0] == 0
    second = choice("second")["rates"]
    shared = first["rates"].keys() & second.keys()
    assert shared
    assert all(second[name] == first["rates"][name] for name in shared)
    assert command(*grid, "planner.timing=anew", "name=third")[0] == 0
    third = choice("third")["rates"]
    assert not set(third.values()) & set(first["rates"].values())


def test_a_sweep_goes_on_with_what_was_chosen_when_it_began(command):
    grid = ["-m", "model.width=8", *SMALL, "name=grid"]
    assert command(*grid, "seed=0")[0] == 0
    file = Path("runs/grid/study.json")
    study = json.loads(file.read_text())
    ((key, choice),) = study["planner"].items()
    study["planner"][key] = chosen = choice | {"pack_size": 1, "workers": 2, "rates": {"2x1": 9.0}}
    file.write_text(json.dumps(study))
    code, out, _ = command(*grid, "seed=0,1,2")
    assert code == 0
    assert "1 of 3 complete; training 2 in 2 packs on 2 processes on cpu" in out
    assert json.loads(file.read_text())["planner"] == {key: chosen}
    assert store.load("runs/grid").runs.select(pl.len()).item() == 3
