"""`executor=ray`: tasks of a Ray cluster."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from initstudy.config import ConfigError, Plain
from initstudy.scheduling.backends.cluster import SECONDS_UNTIL_SEEN, Cluster, JobEnd
from initstudy.scheduling.backends.contract import Blame
from initstudy.scheduling.backends.job import work

# Seconds to wait for an answer; Ray itself asks for minutes.
KNOCK_TIMEOUT = 5.0


def backend(config: Plain, directory: Path) -> Ray:
    """The cluster at `executor.address`.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError('executor=ray: needs Ray: pip install "initstudy[ray]"') from error
    return Ray(config, directory)


class Ray(Cluster):
    """A Ray cluster; a job is a task. Ray ends tasks when the process that submitted them ends.

    Args:
        config: The configuration of the study.
        directory: The directory of the study.
    """

    name = "ray"
    outlives_coordinator = False
    seconds = 0.2
    packs_per_job = 1
    jobs_at_once = 10_000

    def __init__(self, config: Plain, directory: Path) -> None:
        super().__init__(config, directory)
        self.section = config["executor"]
        self.connected = False
        self.tasks: dict[str, Any] = {}
        self.ends: dict[str, JobEnd] = {}

    def start_jobs(self, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """Submits a task for each group. The scheduler counts attempts, so Ray makes but one.

        Raises:
            ConfigError: No cluster answers at the address.
        """
        import ray

        self._connect()
        task = ray.remote(work).options(
            name=name,
            num_cpus=self.section["cpus"],
            num_gpus=self.section["gpus"],
            max_retries=0,
        )
        jobs = []
        for packs in groups:
            reference = task.remote(self.directory.absolute(), list(packs))
            jobs.append(reference.hex())
            self.tasks[jobs[-1]] = reference
        return jobs

    def find_job(self, name: str, index: int) -> str | None:
        """None: no task outlives the process that submitted it."""
        return None

    def ended_jobs(self, jobs: Collection[str]) -> dict[str, JobEnd]:
        """The tasks that are over, and what Ray says of those that were lost."""
        import ray

        going = {self.tasks[job]: job for job in jobs if job not in self.ends}
        if going:
            ready, _ = ray.wait(list(going), num_returns=len(going), timeout=0)
            self.ends |= {going[reference]: _end(reference) for reference in ready}
        return {job: self.ends[job] for job in jobs if job in self.ends}

    def cancel_job(self, job: str) -> None:
        """Cancels a task, and forgets it."""
        import ray

        reference = self.tasks.pop(job, None)
        if reference is not None and self.ends.pop(job, None) is None:
            ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leaves the cluster, which ends the tasks."""
        import ray

        if self.connected:
            ray.shutdown()

    def _connect(self) -> None:
        import ray

        if self.connected:
            return
        address = self.section["address"]
        try:
            _knock(address)
            ray.init(
                address=None if address == "local" else address,
                logging_level=logging.ERROR,
                log_to_driver=False,
                include_dashboard=False if address == "local" else None,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"executor.address={address}: no Ray cluster answers there "
                f"({str(error).splitlines()[0]}); start one with `ray start --head`, "
                "or use executor.address=local"
            ) from error
        self.connected = True


def _end(reference: Any) -> JobEnd:
    import ray
    from ray import exceptions

    try:
        ray.get(reference)
    except exceptions.OutOfMemoryError:
        return JobEnd("its node ran out of memory", Blame.MEMORY)
    except exceptions.RayTaskError as error:
        return JobEnd(str(error).strip().splitlines()[-1])
    except (exceptions.NodeDiedError, exceptions.LocalRayletDiedError):
        return JobEnd("its node was lost", Blame.NOBODY)
    except exceptions.RayError as error:
        return JobEnd(f"its worker was lost ({type(error).__name__})")
    return JobEnd("its task ended without a result", patience=SECONDS_UNTIL_SEEN)


def _knock(address: str) -> None:
    """Raises `OSError` if an address names a host and a port at which nobody answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_TIMEOUT).close()
