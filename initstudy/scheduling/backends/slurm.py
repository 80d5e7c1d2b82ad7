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
from types import TracebackType
from typing import TYPE_CHECKING

from initstudy.config import ConfigError, Plain
from initstudy.scheduling.backends import mailbox as jobs
from initstudy.scheduling.backends.contract import SECONDS_TO_BE_SEEN, End, RefusedError
from initstudy.scheduling.backends.worker import work

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

log = logging.getLogger(__name__)

LOGS = "slurm"
# States of a job that neither waits nor runs (https://slurm.schedmd.com/squeue.html#lang). Any
# other one, a new one of a later SLURM too, goes on.
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


@dataclass(frozen=True)
class Job:
    """What submitit pickles and calls on the node. Packs are read from the shared directory.

    Attributes:
        directory: Of the sweep.
        packs: Ids.
        requeues: How often it may run out of time, or be pre-empted.
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
        left = [pack for pack in self.packs if jobs.read_done(directory, pack) is None]
        if left and jobs.read_begun(directory, left[0]).times > self.requeues:
            reason = f"ran out of time {self.requeues + 1} times; give it a longer executor.time"
            jobs.write_done(directory, left[0], jobs.Done(error=reason))
        return DelayedSubmission(self)


class Slurm:
    """A SLURM cluster.

    Args:
        section: The executor's configuration.

    Raises:
        ConfigError: submitit is not installed, or SLURM's commands are not here.
    """

    name = "slurm"
    outlives_head = True

    def __init__(self, section: Plain) -> None:
        _ensure_available()
        self.section = section
        self.seconds = min(1.0, section["poll"])
        self.packs_per_job = section["packs_per_job"]
        self.jobs_at_once = section["array_size"]
        self.retries = section["retries"]
        self.asked = -section["poll"]
        self.answer: dict[str, str] = {}

    def __enter__(self) -> Slurm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: jobs outlive the head."""

    def submit(self, directory: Path, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """Submits one job array.

        Raises:
            RefusedError: sbatch does not take it.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        # The head counts, by what the workers wrote: pre-emption has no limit in submitit.
        executor = SlurmExecutor(directory / jobs.FOLDER / LOGS, max_num_timeout=10**9)
        executor.update_parameters(job_name=name, **_parameters(self.section))
        calls = [Job(str(directory), tuple(packs), self.section["requeues"]) for packs in groups]
        try:
            # submitit prints what sbatch says of a refusal; it is in the error as well.
            with contextlib.redirect_stderr(io.StringIO()):
                with executor.batch():
                    submitted = [executor.submit(call) for call in calls]
                ids = [job.job_id for job in submitted]
        except (FailedJobError, FailedSubmissionError) as error:
            raise RefusedError(f"executor=slurm: {_said_by_sbatch(error)}") from error
        self.asked = -self.section["poll"]
        return ids

    def find(self, name: str, index: int) -> str | None:
        """The job of that place in an array, by the array's name.

        Raises:
            RefusedError: SLURM does not answer.
        """
        listed = _squeue("--name", name)
        if listed is None:
            raise RefusedError("executor=slurm: squeue does not answer; try again when it does")
        return next((job for job in listed if job.endswith(f"_{index}") or "_" not in job), None)

    def ended(self, jobs: Collection[str]) -> dict[str, End]:
        """The jobs that SLURM no longer has in its queue. While it does not answer, none."""
        if time.monotonic() - self.asked >= self.section["poll"]:
            self.asked = time.monotonic()
            answer = _squeue()
            if answer is None:
                return {}
            self.answer = answer
        # It forgets a job some minutes after its end.
        states = {job: self.answer.get(job, "UNKNOWN") for job in jobs}
        return {job: _end(state) for job, state in states.items() if state in {*ENDED, "UNKNOWN"}}

    def cancel(self, job: str) -> None:
        """Makes sure that SLURM does not run it again."""
        subprocess.run(["scancel", job], check=False, capture_output=True)


def _end(state: str) -> End:
    reason = f"ended as {state} without a result; see its log in {jobs.FOLDER}/{LOGS}"
    if state in MACHINE_WENT_AWAY:
        return End(reason, "again")
    if state == "OUT_OF_MEMORY":
        return End(reason, "halve")
    return End(reason, patience=SECONDS_TO_BE_SEEN if state in ("COMPLETED", "UNKNOWN") else 0.0)


def _squeue(*arguments: str) -> dict[str, str] | None:
    """The state of each of the user's jobs, by id, an array's one by one; None: no answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        log.warning("squeue: %s", done.stderr.strip())
        return None
    pairs = (line.split(maxsplit=1) for line in done.stdout.splitlines())
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
