"""`executor=slurm`: jobs of a SLURM cluster, submitted with submitit."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from initstudy.config import ConfigError, Plain
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.backends.cluster import SECONDS_UNTIL_SEEN, Cluster, JobEnd
from initstudy.scheduling.backends.contract import Blame, RefusedError
from initstudy.scheduling.backends.job import work

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

log = logging.getLogger(__name__)

LOGS = "slurm"
# The states of a job that neither waits nor runs (https://slurm.schedmd.com/squeue.html#lang). A
# job in any other state, which a later SLURM may add, counts as one that goes on.
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
MACHINE_WENT_AWAY = {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"}


def backend(config: Plain, directory: Path) -> Slurm:
    """The cluster whose commands are on this machine.

    Raises:
        ConfigError: submitit is not installed, or SLURM's commands are not here.
    """
    _ensure_available()
    return Slurm(config, directory)


@dataclass(frozen=True)
class Job:
    """What submitit pickles and calls on the node. Packs are read from the shared directory.

    Attributes:
        directory: The directory of the study.
        packs: The ids of the packs.
        requeues: How often the job may run out of time, or be pre-empted.
    """

    directory: str
    packs: tuple[str, ...]
    requeues: int

    def __call__(self) -> None:
        """Trains the packs."""
        # submitit ignores it, so that a cancelled job would live on until it is killed.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work(Path(self.directory), self.packs)

    def checkpoint(self) -> DelayedSubmission:
        """The same job again, before its time is up: it passes over the packs that are done."""
        from submitit.helpers import DelayedSubmission

        directory = Path(self.directory)
        left = [pack for pack in self.packs if mailbox.read_done(directory, pack) is None]
        if left and mailbox.read_progress(directory, left[0]).times > self.requeues:
            reason = f"ran out of time {self.requeues + 1} times; give it a longer executor.time"
            mailbox.write_done(directory, left[0], mailbox.Done(error=reason))
        return DelayedSubmission(self)


class Slurm(Cluster):
    """A SLURM cluster; a job is one of a job array.

    Args:
        config: The configuration of the study.
        directory: The directory of the study.
    """

    name = "slurm"
    outlives_coordinator = True

    def __init__(self, config: Plain, directory: Path) -> None:
        super().__init__(config, directory)
        self.section = config["executor"]
        self.seconds = min(1.0, self.section["poll"])
        self.packs_per_job = self.section["packs_per_job"]
        self.jobs_at_once = self.section["array_size"]
        self.asked = -self.section["poll"]
        self.states: dict[str, str] = {}

    def start_jobs(self, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """Submits one job array.

        Raises:
            RefusedError: sbatch does not take it.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        folder = self.directory.absolute()
        # `Job` counts, by what was written: pre-emption has no limit in submitit.
        executor = SlurmExecutor(folder / mailbox.FOLDER / LOGS, max_num_timeout=10**9)
        executor.update_parameters(job_name=name, **_parameters(self.section))
        calls = [Job(str(folder), tuple(packs), self.section["requeues"]) for packs in groups]
        try:
            # submitit prints what sbatch says of a refusal; it is in the error as well.
            with contextlib.redirect_stderr(io.StringIO()):
                with executor.batch():
                    submitted = [executor.submit(call) for call in calls]
                jobs = [job.job_id for job in submitted]
        except (FailedJobError, FailedSubmissionError) as error:
            raise RefusedError(f"executor=slurm: {_said_by_sbatch(error)}") from error
        self.asked = -self.section["poll"]
        return jobs

    def find_job(self, name: str, index: int) -> str | None:
        """The job at an index of an array, by the array's name.

        Raises:
            RefusedError: SLURM does not answer.
        """
        states = _squeue("--name", name)
        if states is None:
            raise RefusedError("executor=slurm: squeue does not answer; try again when it does")
        return next((job for job in states if job.endswith(f"_{index}") or "_" not in job), None)

    def ended_jobs(self, jobs: Collection[str]) -> dict[str, JobEnd]:
        """The jobs that SLURM no longer has in its queue; none while it does not answer."""
        if time.monotonic() - self.asked >= self.section["poll"]:
            self.asked = time.monotonic()
            states = _squeue()
            if states is None:
                return {}
            self.states = states
        # SLURM forgets a job some minutes after its end.
        known = {job: self.states.get(job, "UNKNOWN") for job in jobs}
        return {job: _end(state) for job, state in known.items() if state in {*ENDED, "UNKNOWN"}}

    def cancel_job(self, job: str) -> None:
        """Makes sure that SLURM does not run a job again."""
        subprocess.run(["scancel", job], check=False, capture_output=True)

    def close(self) -> None:
        """Leaves the jobs with SLURM."""


def _end(state: str) -> JobEnd:
    reason = f"ended as {state} without a result; see its log in {mailbox.FOLDER}/{LOGS}"
    if state in MACHINE_WENT_AWAY:
        return JobEnd(reason, Blame.NOBODY)
    if state == "OUT_OF_MEMORY":
        return JobEnd(reason, Blame.MEMORY)
    seen = state in ("COMPLETED", "UNKNOWN")
    return JobEnd(reason, patience=SECONDS_UNTIL_SEEN if seen else 0.0)


def _squeue(*arguments: str) -> dict[str, str] | None:
    """The state of each job of the user, by id, with arrays taken apart; None without an answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
    answer = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
    if answer.returncode != 0:
        log.warning("squeue: %s", answer.stderr.strip())
        return None
    pairs = (line.split(maxsplit=1) for line in answer.stdout.splitlines())
    return dict(pair for pair in pairs if len(pair) == 2)


def _parameters(section: Plain) -> Plain:
    """The executor's configuration as submitit's parameters."""
    parameters = {
        "partition": section["partition"],
        "time": section["time"],
        "cpus_per_task": section["cpus"],
        "mem": None if section["memory"] is None else f"{section['memory']}G",
        "gpus_per_node": section["gpus"] or None,
        "array_parallelism": section["array_parallelism"],
        "signal_delay_s": section["notice"],
        "setup": list(section["setup"]) or None,
        "additional_parameters": {"requeue": True, **section["sbatch"]},
    }
    return {key: value for key, value in parameters.items() if value is not None}


def _said_by_sbatch(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line.startswith("sbatch: error: ")]
    return "; ".join(line.removeprefix("sbatch: error: ") for line in said) or lines[0]


def _ensure_available() -> None:
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            'executor=slurm: needs submitit: pip install "initstudy[slurm]"'
        ) from error
    missing = [name for name in ("sbatch", "squeue", "scancel", "srun") if not shutil.which(name)]
    if missing:
        raise ConfigError(
            f"executor=slurm: there is no {missing[0]} here; give the command where SLURM's are, "
            "or choose executor=local"
        )
