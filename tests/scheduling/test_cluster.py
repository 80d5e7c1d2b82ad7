"""Packs that jobs train, with a cluster that trains in this process but is hard to please."""

from __future__ import annotations

import pytest

from initstudy import store
from initstudy.config import ConfigError
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.backends.choose import UnderWay, under_way
from initstudy.scheduling.backends.cluster import JobEnd
from initstudy.scheduling.backends.contract import Blame
from initstudy.scheduling.backends.job import Outbox, work
from initstudy.scheduling.backends.local import Local
from initstudy.scheduling.packing import halves, packs_of
from initstudy.training.pack import train_pack
from tests.scheduling.jobs import CPU, Stingy, all_in_one, single_runs, train


class Losing(Stingy):
    """Its jobs come to nothing."""

    def train(self, packs):
        Outbox(self.directory, packs[0])


class Outliving(Stingy):
    """A backend that nobody has heard of, whose jobs go on when their coordinator has ended."""

    name = "outliving"
    outlives_coordinator = True
    known: dict[str, str]

    def find_job(self, name, index):
        return self.known.get(f"{name}/{index}")


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_what_is_refused_for_now_waits_until_the_others_are_through(tmp_path):
    backend, packs = Stingy(tmp_path, takes=2), single_runs(5)
    assert train(backend, packs) == {}
    assert sorted(backend.submitted) == sorted(pack.id for pack in packs)
    assert sorted(store.load(tmp_path).runs["seed"]) == [0, 1, 2, 3, 4]
    assert not list((tmp_path / "jobs").iterdir())


def test_what_is_refused_from_the_start_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no more than 1 jobs"):
        train(Stingy(tmp_path, takes=1), single_runs(2))
    assert not list(mailbox.tasks(tmp_path))


def test_a_machine_that_lacks_something_is_no_fault_of_a_run(tmp_path, monkeypatch):
    """Tried again as often as is allowed, never halved, and the machine's words are the reason."""
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")
    whole, backend = all_in_one(single_runs(4)), Stingy(tmp_path)
    (tmp_path / "nowhere").rmdir()
    failed = train(backend, [whole])
    assert backend.submitted == [whole.id] * 3
    assert len(failed) == 4
    assert all("No such file or directory" in reason for reason in failed.values())
    assert len(store.failures(tmp_path)) == 4


@pytest.mark.parametrize(
    ("blame", "submissions"),
    [
        # Three attempts at the four, at each two, and at each one.
        (Blame.WORKER, 3 * 7),
        (Blame.MEMORY, 7),
    ],
)
def test_a_pack_that_is_lost_time_and_again_is_halved(tmp_path, blame, submissions):
    whole, backend = all_in_one(single_runs(4)), Losing(tmp_path, end=JobEnd("died", blame))
    assert len(train(backend, [whole])) == 4
    assert len(backend.submitted) == submissions


def test_a_machine_that_goes_away_is_counted_against_nobody(tmp_path):
    backend = Stingy(tmp_path, end=JobEnd("pre-empted", Blame.NOBODY))
    train_for_real, preempted = backend.train, []

    def train_at_the_sixth(packs):
        preempted.append(packs)
        if len(preempted) > 5:
            train_for_real(packs)

    backend.train = train_at_the_sixth
    assert train(backend, single_runs(1), retries=0) == {}
    assert len(backend.submitted) == 6
    assert len(store.load(tmp_path).runs) == 1


def test_a_pack_behind_the_one_that_kills_its_job_is_not_to_blame(tmp_path):
    """It is submitted again, though nothing may be lost a second time."""
    deadly, harmless = single_runs(2)

    class Killing(Stingy):
        packs_per_job = 2

        def train(self, packs):
            if packs[0] == deadly.id:
                Outbox(self.directory, deadly.id)
            else:
                work(self.directory, packs)

    backend = Killing(tmp_path, end=JobEnd("died"))
    failed = train(backend, [deadly, harmless], retries=0)
    (job,) = backend.cancelled[:1]
    assert failed == {"seed=0": f"stingy job {job}: died"}
    assert store.load(tmp_path).runs["seed"].to_list() == [1]
    assert store.failures(tmp_path).keys() == {deadly.runs[0].id}


def test_a_job_that_still_has_another_pack_is_not_cancelled_for_the_sake_of_one(tmp_path):
    backend, packs = Stingy(tmp_path), single_runs(2)
    backend.packs_per_job = 2
    jobs = backend.submit(packs)
    backend.cancel(packs[0])
    assert backend.cancelled == []
    backend.cancel(packs[1])
    assert backend.cancelled == jobs


def test_packs_with_any_backend_that_outlives_its_coordinator_are_not_lost(tmp_path):
    packs = single_runs(3)
    killed = Outliving(tmp_path)
    killed.jobs_at_once = 3
    jobs = killed.submit(packs)
    # As if it had been killed before the answers for these were written down.
    for pack in packs[1:]:
        submission = mailbox.read_submission(tmp_path, pack.id)
        unanswered = mailbox.Submission(
            "outliving", True, submission.name, submission.index, job=None
        )
        mailbox.write_submission(tmp_path, pack.id, unanswered)
    for other in (Local(tmp_path, CPU), Stingy(tmp_path)):
        with pytest.raises(ConfigError, match="packs of this sweep are with outliving"):
            under_way(other, tmp_path)
    next_one = Outliving(tmp_path)
    # Of one that was never submitted the backend knows nothing.
    next_one.known = {f"{submission.name}/1": jobs[1]}
    next_one.going = {job: [pack.id] for job, pack in zip(jobs[:2], packs, strict=False)}
    earlier = under_way(next_one, tmp_path)
    held = [task.pack for task in earlier.held]
    assert sorted(held) == sorted(pack.id for pack in packs[:2])
    adopted = packs_of([packs[0].group], [[run.id for run in t.runs] for t in earlier.held])
    assert train(next_one, packs[2:], under_way=adopted) == {}
    assert next_one.submitted == [packs[2].id]
    assert sorted(store.load(tmp_path).runs["seed"]) == [0, 1, 2]
    assert under_way(next_one, tmp_path) == UnderWay(tmp_path)


def test_a_job_that_begins_again_trains_no_half_that_the_store_has(tmp_path):
    """As after a requeue of a job that had to halve its pack."""
    pack = all_in_one(single_runs(4))
    first, second = halves(pack)
    task = mailbox.Task(pack.id, pack.runs, "cpu", str(tmp_path))
    half = mailbox.Task(first.id, first.runs, "cpu", str(tmp_path))
    mailbox.write_task(tmp_path, half)
    work(tmp_path, [first.id])
    file = tmp_path / "store" / f"{first.id}.runs.parquet"
    before = file.stat().st_mtime_ns
    mailbox.write_task(tmp_path, task)
    work(tmp_path, [pack.id])
    assert mailbox.read_done(tmp_path, pack.id) == mailbox.Done((first.id, second.id))
    assert file.stat().st_mtime_ns == before
    assert sorted(store.packs(tmp_path)) == sorted([first.id, second.id])


def test_a_job_that_has_no_room_for_its_pack_halves_it_without_another_wait(tmp_path, monkeypatch):
    """Under its limit a worker takes two runs at a time; the coordinator hears of both halves."""
    pack, backend = all_in_one(single_runs(4)), Stingy(tmp_path)

    def of_two(pack, *given):
        if len(pack.runs) > 2:
            raise MemoryError("no room for so many")
        return train_pack(pack, *given)

    monkeypatch.setattr("initstudy.scheduling.backends.worker.train_pack", of_two)
    assert train(backend, [pack]) == {}
    assert backend.submitted == [pack.id]
    assert sorted(store.packs(tmp_path)) == sorted(half.id for half in halves(pack))
    assert sorted(store.load(tmp_path).runs["seed"]) == [0, 1, 2, 3]
