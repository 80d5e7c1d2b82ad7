"""Forks that train side by side and die: of a signal, of a run, with their head."""

from __future__ import annotations

import os
import signal
import textwrap

import pytest

from initstudy import store
from tests.clusters import assert_same_results, assert_went_on, drawn, head, partway, wait_for
from tests.scheduling.forks import CONTINUING, FORKS, GRID, HELD, SMALL, children, is_gone


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The grid as one process trains it, pack after pack."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "held.py").write_text(textwrap.dedent(HELD))
    with head(folder, *GRID, *SMALL, "planner.workers=1", "name=grid") as study:
        assert study.wait() == 0, study.said()
    return folder / "runs/grid"


def test_forks_that_are_killed_cost_nothing_but_time(held, alone):
    """Both at once: what each was training another goes on with from where it was."""
    directory = held / "runs/grid"
    (held / "hold").touch()
    with head(held, *GRID, *SMALL, *FORKS, *CONTINUING, "name=grid") as study:
        wait_for(lambda: len({file.parent for file in partway(directory)}) == 2)
        before = drawn(directory)
        first = children(study.process)
        assert len(first) == 2
        for fork in first:
            os.kill(fork, signal.SIGKILL)
        wait_for(lambda: len(children(study.process) - first) == 2)
        (held / "hold").unlink()
        assert study.wait() == 0, study.said()
    said = " ".join(study.said().split())
    assert said.count("ended by signal 9; its pack is tried again") == 2
    assert_went_on(directory, before, alone)


def test_a_run_that_kills_its_fork_fails_alone(held):
    grid = [
        "-m",
        "init._target_=held.deadly",
        "init.std=0.1,0.2,0.3",
        "model.width=8",
        "planner.pack_size=3",
        "executor.retries=1",
    ]
    with head(held, *grid, *SMALL, *FORKS, "name=grid") as study:
        assert study.wait() == 3, study.said()
    assert sorted(store.load(held / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    (reason,) = store.failures(held / "runs/grid").values()
    assert reason == "a process that trains has ended by signal 9"
    said = " ".join(study.said().split())
    # Of three runs, of the two or the one with it, and of it alone: once more each, then less.
    assert said.count("tried again") == said.count("halved") + 1 >= 2


def test_what_a_users_code_raises_in_a_fork_is_recorded_in_its_words(held):
    grid = [
        "-m",
        "init._target_=held.Choosy",
        "init.std=0.1,0.2,0.3",
        "model.width=8",
        "planner.pack_size=3",
    ]
    with head(held, *grid, *SMALL, *FORKS, "name=grid") as study:
        assert study.wait() == 3, study.said()
    assert sorted(store.load(held / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    (reason,) = store.failures(held / "runs/grid").values()
    assert reason == "Speechless: not with 0.2"
    assert "Traceback" not in study.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_forks_end_with_their_head_and_the_next_one_continues(held, alone, number):
    directory = held / "runs/grid"
    (held / "hold").touch()
    with head(held, *GRID, *SMALL, *FORKS, *CONTINUING, "name=grid") as stopped:
        wait_for(lambda: len({file.parent for file in partway(directory)}) == 2)
        forks = children(stopped.process)
        assert len(forks) == 2
        # Ctrl-C reaches all processes of a terminal.
        for pid in [*(forks if number == signal.SIGINT else ()), stopped.process.pid]:
            os.kill(pid, number)
        code = stopped.wait()
    wait_for(lambda: all(is_gone(fork) for fork in forks), 10)
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert "to continue: python -m initstudy" in stopped.said()
    assert "tried again" not in stopped.said()
    assert not store.finished(directory)
    (held / "hold").unlink()
    with head(held, *GRID, *SMALL, *FORKS, *CONTINUING, "name=grid") as study:
        assert study.wait() == 0, study.said()
    assert "0 of 4 complete; training 4 in 2 packs" in study.said()
    assert_same_results(directory, alone)
