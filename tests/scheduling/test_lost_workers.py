"""Worker processes that die: of a signal, of a run, with their coordinator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from initstudy import store
from tests.clusters import (
    assert_same_results,
    assert_went_on,
    coordinator,
    drawn,
    environment,
    partway,
    wait_for,
)
from tests.scheduling.workers import (
    CONTINUING,
    FORKED,
    GRID,
    HELD,
    SMALL,
    SPAWNED,
    is_gone,
    workers_of,
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The grid as one process trains it, pack after pack."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "held.py").write_text(textwrap.dedent(HELD))
    with coordinator(folder, *GRID, *SMALL, "planner.workers=1", "name=grid") as study:
        assert study.wait() == 0, study.said()
    return folder / "runs/grid"


@pytest.mark.parametrize(("asked", "threads"), [FORKED, SPAWNED], ids=["forked", "spawned"])
def test_workers_that_are_killed_cost_nothing_but_time(held, alone, asked, threads):
    """Both at once: what each was training another goes on with from where it was."""
    directory = held / "runs/grid"
    (held / "hold").touch()
    grid = [*GRID, *SMALL, *asked, *CONTINUING, "name=grid"]
    with coordinator(held, *grid, threads=threads) as study:
        wait_for(lambda: len({file.parent for file in partway(directory)}) == 2)
        before = drawn(directory)
        first = workers_of(study.process)
        assert len(first) == 2
        for worker in first:
            os.kill(worker, signal.SIGKILL)
        wait_for(lambda: len(workers_of(study.process) - first) == 2)
        (held / "hold").unlink()
        assert study.wait() == 0, study.said()
    said = " ".join(study.said().split())
    assert said.count("its process ended by signal 9; its pack is submitted again") == 2
    assert_went_on(directory, before, alone)


def test_a_run_that_kills_its_worker_fails_alone(held):
    grid = [
        "-m",
        "init._target_=held.deadly",
        "init.std=0.1,0.2,0.3",
        "model.width=8",
        "planner.pack_size=3",
        "executor.retries=1",
    ]
    with coordinator(held, *grid, *SMALL, *FORKED[0], "name=grid") as study:
        assert study.wait() == 3, study.said()
    assert sorted(store.load(held / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    (reason,) = store.failures(held / "runs/grid").values()
    assert reason == "its process ended by signal 9"
    said = " ".join(study.said().split())
    # Of three runs, of the two or the one with it, and of it alone: once more each, then less.
    assert said.count("submitted again") == said.count("halved") + 1 >= 2


@pytest.mark.parametrize(("asked", "threads"), [FORKED, SPAWNED], ids=["forked", "spawned"])
def test_what_a_users_code_raises_in_a_worker_is_recorded_in_its_words(held, asked, threads):
    grid = [
        "-m",
        "init._target_=held.Choosy",
        "init.std=0.1,0.2,0.3",
        "model.width=8",
        "planner.pack_size=3",
    ]
    with coordinator(held, *grid, *SMALL, *asked, "name=grid", threads=threads) as study:
        assert study.wait() == 3, study.said()
    assert sorted(store.load(held / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    (reason,) = store.failures(held / "runs/grid").values()
    assert reason == "Speechless: not with 0.2"
    assert "Traceback" not in study.said()


@pytest.mark.parametrize(
    ("asked", "threads", "number"),
    [
        (*FORKED, signal.SIGINT),
        (*FORKED, signal.SIGTERM),
        (*FORKED, signal.SIGKILL),
        (*SPAWNED, signal.SIGINT),
        (*SPAWNED, signal.SIGKILL),
    ],
    ids=["forked-INT", "forked-TERM", "forked-KILL", "spawned-INT", "spawned-KILL"],
)
def test_workers_end_with_their_coordinator_and_the_next_one_continues(
    held, alone, asked, threads, number
):
    directory = held / "runs/grid"
    (held / "hold").touch()
    grid = [*GRID, *SMALL, *CONTINUING, "name=grid"]
    with coordinator(held, *grid, *asked, threads=threads) as stopped:
        wait_for(lambda: len({file.parent for file in partway(directory)}) == 2)
        workers = workers_of(stopped.process)
        assert len(workers) == 2
        # Ctrl-C reaches all processes of a terminal.
        for pid in [*(workers if number == signal.SIGINT else ()), stopped.process.pid]:
            os.kill(pid, number)
        code = stopped.wait()
    wait_for(lambda: all(is_gone(worker) for worker in workers), 10)
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert "to continue: python -m initstudy" in stopped.said()
    assert "submitted again" not in stopped.said()
    assert "Traceback" not in stopped.said()
    assert not store.finished(directory)
    (held / "hold").unlink()
    # Whoever trains, the packs are the same.
    with coordinator(held, *grid, *FORKED[0]) as study:
        assert study.wait() == 0, study.said()
    assert "0 of 4 complete; training 4 in 2 packs" in study.said()
    assert_same_results(directory, alone)


def test_ctrl_c_while_a_worker_starts_prints_no_trace(held):
    """Its interpreter takes seconds to import what it needs, deaf to signals until then."""
    (held / "hold").touch()
    grid = [*GRID, *SMALL, *SPAWNED[0], "name=grid"]
    with coordinator(held, *grid, threads=SPAWNED[1]) as stopped:
        workers = wait_for(lambda: workers_of(stopped.process))
        for pid in [*workers, stopped.process.pid]:
            os.kill(pid, signal.SIGINT)
        assert stopped.wait() == 130
    wait_for(lambda: all(is_gone(worker) for worker in workers), 10)
    assert "Traceback" not in stopped.said()


def test_workers_watch_for_themselves_where_the_system_does_not(tmp_path):
    """As on macOS: a thread of the worker ends it, even while it is at work."""
    script = """
        import ctypes, multiprocessing, os, time
        from initstudy.scheduling.backends.worker import _end_with_coordinator

        def work():
            ctypes.CDLL = lambda name: object()
            _end_with_coordinator()
            print(os.getpid(), flush=True)
            while True:
                sum(range(10**6))

        multiprocessing.get_context("fork").Process(target=work).start()
        time.sleep(60)
    """
    coordinator = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with coordinator.stdout:
        worker = int(coordinator.stdout.readline())
        assert not is_gone(worker)
        coordinator.kill()
        coordinator.wait()
    wait_for(lambda: is_gone(worker), 10)
