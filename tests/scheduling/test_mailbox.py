"""What coordinator and jobs tell each other, on disk."""

from __future__ import annotations

from initstudy.config import Run, identity
from initstudy.scheduling.backends import mailbox


def test_every_backend_reads_the_pack_that_was_planned(tmp_path):
    """Through JSON: a run's id is the hash of its configuration, which must be what it was."""
    config = {
        "seed": 1,
        "optimizer": {"betas": [0.9, 0.999], "lr": 1e-5, "nesterov": None},
        "init": {"_target_": "mine.Ünit", "std": 0.1 + 0.2},
    }
    run = Run(config, ("init.std=0.3",), identity(config), {"init": "normal"})
    task = mailbox.Task("abc", (run, run), "auto", "/somewhere", 2)
    mailbox.write_task(tmp_path, task)
    mailbox.write_submission(tmp_path, "abc", mailbox.Submission("slurm", True, "name", 3, "12_3"))
    assert list(mailbox.tasks(tmp_path)) == [task]
    assert identity(mailbox.read_task(tmp_path, "abc").runs[0].config) == run.id
    mailbox.forget(tmp_path, "abc")
    assert not list((tmp_path / "jobs").iterdir())
