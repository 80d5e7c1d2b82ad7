"""`executor=slurm` on a real SLURM: one node will do."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from initstudy import store
from initstudy.cli.status import status
from initstudy.config import Run
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.backends.slurm import Job
from tests.clusters import (
    CONTINUING,
    GRID,
    SMALL,
    assert_same_results,
    coordinator,
    drawn,
    partway,
    started,
    wait_for,
)

pytest.importorskip("submitit", reason='needs pip install -e ".[slurm]"')


def _answers() -> bool:
    if not shutil.which("sbatch"):
        return False
    return subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not _answers(), reason="needs a SLURM (sbatch, a running slurmctld)"
)
SLURM = ["executor=slurm", "executor.poll=0.5", "executor.memory=1"]


@pytest.fixture
def held(tmp_path):
    """A folder whose workers wait, and none of its jobs left afterwards."""
    (tmp_path / "hold").touch()
    yield tmp_path
    for file in tmp_path.glob("runs/*/jobs/slurm/*_submission.sh"):
        subprocess.run(["scancel", file.name.split("_")[0]], check=False, capture_output=True)


def job_of(directory: Path, pack: str) -> str | None:
    submission = mailbox.read_submission(directory, pack)
    return submission.job if submission else None


def test_a_sweep_on_slurm_equals_the_one_on_this_machine(tmp_path, undisturbed):
    with coordinator(tmp_path, *GRID, *SMALL, *SLURM, "name=grid") as study:
        assert study.wait() == 0, study.said()
    assert "submitted 2 packs to slurm" in study.said()
    assert_same_results(tmp_path / "runs/grid", undisturbed)


def test_a_run_that_cannot_train_fails_alone(tmp_path):
    grid = ["-m", "model._target_=mine.Held", "init._target_=mine.Choosy", "init.std=0.1,0.2,0.3"]
    with coordinator(tmp_path, *grid, *SMALL, *SLURM, "name=grid") as study:
        assert study.wait() == 3
    failed = [line for line in study.said().splitlines() if line.startswith("initstudy: ")]
    assert "std=0.2" in failed[0]
    assert failed[0].endswith("failed: ArithmeticError: not with 0.2")
    assert len(failed) == 2
    assert "Traceback" not in study.said()
    assert sorted(store.load(tmp_path / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    assert list(store.failures(tmp_path / "runs/grid").values()) == [
        "ArithmeticError: not with 0.2"
    ]


def test_a_cancelled_job_is_run_again(held, undisturbed):
    directory = held / "runs/grid"
    with coordinator(held, *GRID, *SMALL, *SLURM, "name=grid") as study:
        pack = wait_for(lambda: started(directory))[0]
        job = job_of(directory, pack)
        subprocess.run(["scancel", job], check=True)
        wait_for(lambda: job_of(directory, pack) not in (None, job))
        (held / "hold").unlink()
        assert study.wait() == 0, study.said()
    assert "ended as CANCELLED without a result" in study.said()
    assert_same_results(directory, undisturbed)


def test_a_job_that_runs_out_of_time_is_requeued_and_finishes(held, undisturbed):
    """From where it was. SLURM's shortest limit is a minute, and it may signal a minute early."""
    directory = held / "runs/grid"
    (held / "hold").rename(held / "hold-later")
    one_pack = ["init.std=0.1" if "init.std" in argument else argument for argument in GRID]
    limit = ["executor.time=1", "executor.notice=10"]
    with coordinator(held, *one_pack, *SMALL, *SLURM, *limit, *CONTINUING, "name=grid") as study:
        pack = wait_for(lambda: started(directory))[0]
        wait_for(lambda: partway(directory))
        before = drawn(directory)
        job = job_of(directory, pack)
        wait_for(lambda: "BeginTime" in show(job), 120)
        # SLURM lets a requeued job wait for two minutes; it needs some seconds of them.
        time.sleep(5)
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now"], check=True)
        wait_for(lambda: mailbox.read_progress(directory, pack).times == 2)
        (held / "hold-later").unlink()
        assert study.wait() == 0, study.said()
    assert job_of(directory, pack) is None
    assert study.said().count("submitted 1 pack") == 1
    assert len(before) == 2
    assert drawn(directory) == before
    assert_same_results(directory, undisturbed, runs=2)


def test_a_coordinator_that_was_killed_finds_its_jobs(held, undisturbed):
    directory = held / "runs/grid"
    command = [*GRID, *SMALL, *SLURM, "name=grid"]
    with coordinator(held, *command) as killed:
        packs = wait_for(lambda: started(directory))
        wait_for(lambda: all(job_of(directory, pack) for pack in packs))
    submitted = {task.pack: job_of(directory, task.pack) for task in mailbox.tasks(directory)}
    assert len(submitted) == 2
    seen = status(directory)
    assert not seen["running"]
    assert seen["jobs"]["packs"] == 2
    assert seen["jobs"]["begun"] > 0
    # As if it had been killed before SLURM's answer was written down.
    forgotten = max(submitted)
    lost = mailbox.read_submission(directory, forgotten)
    mailbox.write_submission(
        directory, forgotten, mailbox.Submission("slurm", True, lost.name, lost.index)
    )
    assert not killed.said().count("trained")
    with coordinator(held, *GRID, *SMALL, "name=grid") as elsewhere:
        assert elsewhere.wait() == 2
    assert "packs of this sweep are with slurm" in elsewhere.said()
    with coordinator(held, *command) as study:
        wait_for(lambda: "found 2 packs" in study.said())
        assert {pack: job_of(directory, pack) for pack in submitted} == submitted
        (held / "hold").unlink()
        assert study.wait() == 0, study.said()
    assert "submitted 2" not in study.said()
    assert_same_results(directory, undisturbed)


def test_jobs_that_finish_while_no_coordinator_watches_reach_wandb_with_the_next(held, undisturbed):
    """One job with both packs; the next coordinator has no need of SLURM any more."""
    directory = held / "runs/grid"
    grid = [*GRID, *SMALL, "tracking=offline", "name=grid"]
    with coordinator(held, *grid, *SLURM, "executor.packs_per_job=2"):
        pack = wait_for(lambda: started(directory))[0]
        wait_for(lambda: job_of(directory, pack))
    assert len({job_of(directory, task.pack) for task in mailbox.tasks(directory)}) == 1
    (held / "hold").unlink()
    wait_for(lambda: len(mailbox.list_status(directory).done) == 2)
    assert not list(directory.glob("wandb/*"))
    with coordinator(held, *grid) as study:
        assert study.wait() == 0, study.said()
    assert "4 of 4 complete" in study.said()
    assert len(list(directory.glob("wandb/offline-run-*"))) == 4
    assert not list(mailbox.tasks(directory))
    assert_same_results(directory, undisturbed)


def test_a_pack_that_never_fits_into_the_time_limit_is_given_up(tmp_path):
    """What SLURM's signal calls, after as many requeues as are allowed."""
    runs = (Run({"seed": 1}, id="1"),)
    mailbox.write_task(tmp_path, mailbox.Task("abc", runs, "cpu", str(tmp_path)))
    job = Job(str(tmp_path), ("abc",), requeues=2)
    for times in (1, 2, 3):
        mailbox.write_progress(tmp_path, "abc", mailbox.Progress(times))
        assert mailbox.read_done(tmp_path, "abc") is None
        job.checkpoint()
    assert "ran out of time 3 times" in mailbox.read_done(tmp_path, "abc").error


def test_what_slurm_refuses_is_one_line(tmp_path):
    with coordinator(
        tmp_path, *GRID, *SMALL, *SLURM, "executor.partition=nowhere", "name=grid"
    ) as study:
        assert study.wait() == 2
    lines = [line for line in study.said().splitlines() if line.startswith("initstudy: ")]
    assert len(lines) == 1
    assert "executor=slurm" in lines[0]
    assert "nvalid partition" in lines[0]
    assert "Traceback" not in study.said()


def show(job: str) -> str:
    done = subprocess.run(
        ["scontrol", "show", "job", job], check=True, capture_output=True, text=True
    )
    return done.stdout
