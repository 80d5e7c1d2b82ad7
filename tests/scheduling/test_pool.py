"""Packs that train side by side, in worker processes of the command."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from initstudy import store
from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary
from initstudy.scheduling.autotune import Autotuner
from initstudy.scheduling.backends.contract import Blame, Checkpointed, Event, Finished, Lost
from initstudy.scheduling.backends.local import Local
from initstudy.scheduling.backends.pipe import Training
from initstudy.scheduling.backends.pool import Pool, TrialError
from initstudy.scheduling.recorder import Recorder
from initstudy.scheduling.scheduler import Scheduler
from initstudy.training.group import Pack
from initstudy.training.pack import Resumption, train_pack
from tests.clusters import assert_same_results, coordinator, results, wait_for
from tests.scheduling.workers import FORKED, GRID, SMALL, is_gone, small_pack
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


@pytest.fixture(scope="module")
def pack():
    return small_pack()


@pytest.fixture(scope="module")
def forks(pack):
    """Made after the pack, whose group forks have from this process."""
    pool = Pool(threads=1)
    assert pool.forks
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def spawned():
    """One for all tests: it takes seconds to start."""
    pool = Pool(threads=2)
    assert not pool.forks
    yield pool
    pool.close()


@pytest.fixture(params=["forks", "spawned"])
def pool(request):
    return request.getfixturevalue(request.param)


def submit(pool: Pool, pack: Pack, every: float | None = None) -> None:
    pool.submit(Training(pack.id, pack.group.key, pack.runs, None, every))


def events(pool: Pool, pack: Pack) -> list[Event]:
    """What a pack that was submitted tells, to its end."""
    told: list[Event] = []
    while not told or not isinstance(told[-1], Finished | Lost):
        for pack_id, event in pool.events(1):
            assert pack_id == pack.id
            told.append(event)
    return told


def steps(told: list) -> list[tuple[int, int]]:
    return [(row.member, row.step) for row in told if isinstance(row, Row)]


def test_a_worker_tells_what_the_training_yields(pool, pack):
    alone = list(train_pack(pack, CPU))
    submit(pool, pack)
    told = events(pool, pack)
    assert isinstance(told[-1], Finished)
    assert [row for row in told if isinstance(row, Row)] == [
        row for row in alone if isinstance(row, Row)
    ]
    summaries = ([event for event in e if isinstance(event, Summary)] for e in (told, alone))
    for ours, theirs in zip(*summaries, strict=True):
        # A worker adds on what device it trained.
        assert ours.values.items() >= theirs.values.items()
        assert ours.values["device"] == "cpu"


def test_a_state_from_a_worker_stays_what_it_was_while_training_goes_on(pool, pack):
    expected = {}
    for item in train_pack(pack, CPU, Resumption(due=lambda: True)):
        if isinstance(item, State):
            expected[item.step] = {name: t.clone() for name, t in item.tensors.items()}
    submit(pool, pack, every=0)
    received = [event.state for event in events(pool, pack) if isinstance(event, Checkpointed)]
    assert [state.step for state in received] == list(expected)
    assert len(received) > 5
    for state in received:
        assert state.tensors.keys() == expected[state.step].keys()
        for name, tensor in state.tensors.items():
            # The state of the random numbers is that of another process.
            if name != "rng":
                assert torch.equal(tensor, expected[state.step][name]), (state.step, name)


def test_a_worker_whose_pack_is_cancelled_is_replaced_for_the_next(forks, pack):
    submit(forks, pack, every=0)
    (first,) = forks.workers
    pid = first.process.pid
    forks.cancel(pack.id)
    assert is_gone(pid)
    submit(forks, pack)
    again = events(forks, pack)
    assert steps(again) == steps(list(train_pack(pack, CPU)))


def test_a_worker_that_is_killed_says_how_and_is_replaced(pool, pack):
    submit(pool, pack)
    first = pool.workers[0].process.pid
    os.kill(first, signal.SIGKILL)
    assert events(pool, pack)[-1] == Lost("its process ended by signal 9", Blame.WORKER)
    assert is_gone(first)
    submit(pool, pack)
    assert isinstance(events(pool, pack)[-1], Finished)
    assert pool.workers[0].process.pid != first


def test_a_worker_that_dies_while_it_has_nothing_to_do_loses_nothing(forks, pack):
    submit(forks, pack)
    events(forks, pack)
    first = forks.workers[0].process.pid
    os.kill(first, signal.SIGKILL)
    # Until then it may still be seen to be alive, and be given the pack.
    forks.workers[0].process.join()
    submit(forks, pack)
    assert isinstance(events(forks, pack)[-1], Finished)
    assert forks.workers[0].process.pid != first


def test_workers_that_end_as_soon_as_they_start_are_lost_with_their_pack(pack, monkeypatch):
    """A state that is larger than the pipe waits for a reader that never comes."""
    monkeypatch.setattr(
        "initstudy.scheduling.backends.pool.serve", lambda *given: os._exit(3), raising=True
    )
    pool = Pool()
    state = State(1, {"large": torch.zeros(2**20)}, {})
    pool.submit(Training(pack.id, pack.group.key, pack.runs, state, None))
    assert events(pool, pack) == [Lost("its process ended with code 3", Blame.WORKER)]
    pool.close()


def test_a_worker_that_leaves_its_pipe_to_a_child_is_lost_all_the_same(held, monkeypatch):
    """A model may start processes of its own, which hold open what they have inherited."""
    monkeypatch.chdir(held)
    monkeypatch.syspath_prepend(str(held))
    pack = small_pack("model._target_=held.Leaving")
    pool = Pool()
    submit(pool, pack)
    told = events(pool, pack)
    assert told[-1] == Lost("its process ended with code 7", Blame.WORKER)
    pool.close()
    child = int(Path("leaving").read_text())
    assert not is_gone(child)
    os.kill(child, signal.SIGKILL)


def test_a_trial_that_workers_cannot_do_spoils_no_other(held, monkeypatch):
    """As for want of memory: no answer to it is taken for one to what is asked next."""
    monkeypatch.syspath_prepend(str(held))
    raising, pack = small_pack("model._target_=held.Raising"), small_pack()
    pool = Pool()
    with pytest.raises(TrialError, match="ArithmeticError: not in a worker"):
        pool.speed(raising, 2)
    assert pool.speed(pack, 2) > 0
    submit(pool, pack)
    assert {step for _, step in steps(events(pool, pack))} >= {0, 6, 12, 24}
    processes = [worker.process.pid for worker in pool.workers]
    assert len(processes) == 2
    pool.close()
    assert all(is_gone(process) for process in processes)


class Listener:
    """A tracker and a sink that let workers go on as soon as every run has told of a row."""

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
    """The workers wait after some steps until somebody has heard of what was before."""
    monkeypatch.chdir(held)
    monkeypatch.syspath_prepend(str(held))
    pack = small_pack("model._target_=held.Telling", "log_every=1")
    packs = [Pack(pack.group, pack.runs[:2]), Pack(pack.group, pack.runs[2:])]
    Path("hold").touch()
    listener = Listener(runs=4)
    backend = Local(Path("runs"), CPU)
    backend.workers = 2
    recorder = Recorder(Path("runs"), CPU, listener, listener)
    assert Scheduler(backend, recorder).run(packs) == {}
    backend.close()
    assert len(listener.heard) == 4


def test_wandb_has_rows_while_packs_still_train(held, server):
    (held / "hold").touch()
    online = [a for a in SMALL if a != "tracking=off"] + ["tracking=online", "log_every=1"]
    telling = [a.replace("held.Held", "held.Telling") for a in GRID]
    with coordinator(held, *telling, *online, *FORKED[0], "name=grid") as study:
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
