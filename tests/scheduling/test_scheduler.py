"""What happens to packs that are lost, by what is to blame."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from initstudy import store
from initstudy.scheduling.backends.contract import Blame, Event, Lost, Started
from initstudy.scheduling.progress import Progress
from initstudy.scheduling.recorder import Recorder
from initstudy.scheduling.scheduler import Scheduler
from initstudy.tracking import Settings, Tracker
from initstudy.training import checkpoints
from initstudy.training.group import Pack
from tests.scheduling.jobs import all_in_one, single_runs

CPU = torch.device("cpu")


class Losing:
    """Loses packs, as a test says, instead of training them.

    Args:
        directory: The directory of the study.
        blame: What is to blame.
        starts: Whether packs start before they are lost.
    """

    name = "losing"
    outlives_coordinator = False

    def __init__(self, directory: Path, blame: Blame, starts: bool) -> None:
        self.directory = directory
        self.blame = blame
        self.starts = starts
        self.submitted: list[int] = []
        self.packs: list[Pack] = []

    @property
    def free(self) -> int:
        return 0 if self.packs else 1

    def submit(self, packs):
        self.packs += packs
        self.submitted += [len(pack.runs) for pack in packs]
        return ["a job"] * len(packs)

    def events(self, timeout: float) -> Iterator[tuple[str, Event]]:
        pack = self.packs.pop()
        if self.starts:
            yield pack.id, Started(resumed=checkpoints.exists(self.directory, pack.id))
        if self.blame is Blame.NOBODY and len(self.submitted) == 9:
            raise TimeoutError("it would go on for ever")
        yield pack.id, Lost("it was in the way", self.blame)

    def cancel(self, pack):
        pass


def lose(directory: Path, pack: Pack, blame: Blame, *, starts: bool, retries: int = 2):
    """The sizes of the packs that were submitted one after another, and why runs failed."""
    backend = Losing(directory, blame, starts)
    tracker = Tracker(Settings(mode="off"), directory, "group")
    with Progress(Console(file=io.StringIO()), directory, 4, 8, 1) as progress:
        recorder = Recorder(directory, CPU, tracker, progress)
        failed = Scheduler(backend, recorder, retries).run([pack])
    return backend.submitted, failed


def keep_a_checkpoint(directory: Path, pack: Pack) -> Path:
    file = directory / "checkpoints" / pack.id / "sha256"
    file.parent.mkdir(parents=True)
    file.touch()
    return file.parent


# From four runs to each one alone, the halves of a half before the other half.
HALVES = [4, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("blame", "starts", "checkpoint", "expected"),
    [
        # What raises does so again, unless it was the checkpoint that has spoiled it.
        (Blame.PACK, True, False, HALVES),
        (Blame.PACK, True, True, [4, *HALVES]),
        (Blame.MEMORY, True, False, HALVES),
        (Blame.MEMORY, True, True, HALVES),
        # A process that has died is one of three attempts, and then the pack is to blame.
        (Blame.WORKER, True, False, [size for size in HALVES for _ in range(3)]),
        (Blame.WORKER, True, True, [4, *(size for size in HALVES for _ in range(3))]),
        # A pack that never began cannot be to blame, nor for what a machine lacks.
        (Blame.WORKER, False, False, [4, 4, 4]),
        (Blame.MACHINE, True, False, [4, 4, 4]),
        (Blame.MACHINE, False, False, [4, 4, 4]),
    ],
)
def test_a_pack_is_tried_again_begun_anew_and_halved_by_what_is_to_blame(
    tmp_path, blame, starts, checkpoint, expected
):
    pack = all_in_one(single_runs(4))
    kept = keep_a_checkpoint(tmp_path, pack) if checkpoint else None
    submitted, failed = lose(tmp_path, pack, blame, starts=starts)
    assert submitted == expected
    assert failed == dict.fromkeys((run.label for run in pack.runs), "it was in the way")
    assert store.failures(tmp_path) == {run.id: "it was in the way" for run in pack.runs}
    assert kept is None or not kept.exists()


def test_a_machine_that_was_taken_away_is_counted_against_nobody(tmp_path):
    pack = all_in_one(single_runs(4))
    kept = keep_a_checkpoint(tmp_path, pack)
    with pytest.raises(TimeoutError):
        lose(tmp_path, pack, Blame.NOBODY, starts=True, retries=0)
    assert store.failures(tmp_path) == {}
    assert kept.exists()
