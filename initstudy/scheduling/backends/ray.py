"""`executor=ray`: tasks of a Ray cluster."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from initstudy.config import ConfigError, Plain
from initstudy.scheduling.backends.contract import SECONDS_TO_BE_SEEN, End
from initstudy.scheduling.backends.worker import work

# Of waiting for an answer; Ray itself asks for minutes.
KNOCK_TIMEOUT = 5.0


class Ray:
    """A Ray cluster. Its tasks belong to the head: Ray ends them when the head is gone.

    Args:
        section: The executor's configuration.

    Raises:
        ConfigError: Ray is not installed.
    """

    name = "ray"
    outlives_head = False
    seconds = 0.2
    packs_per_job = 1

    def __init__(self, section: Plain) -> None:
        try:
            import ray  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError('executor=ray: needs Ray: pip install "initstudy[ray]"') from error
        self.section = section
        self.retries = section["retries"]
        self.jobs_at_once = 10_000
        self.tasks: dict[str, Any] = {}
        self.dead: dict[str, End] = {}

    def __enter__(self) -> Ray:
        import ray

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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import ray

        ray.shutdown()

    def submit(self, directory: Path, groups: Sequence[Sequence[str]], name: str) -> list[str]:
        """One task a pack. The head counts attempts, so Ray makes but one."""
        import ray

        task = ray.remote(work).options(
            name=name,
            num_cpus=self.section["cpus"],
            num_gpus=self.section["gpus"],
            max_retries=0,
        )
        ids = []
        for packs in groups:
            reference = task.remote(directory, list(packs))
            ids.append(reference.hex())
            self.tasks[ids[-1]] = reference
        return ids

    def find(self, name: str, index: int) -> str | None:
        """None: a task does not outlive its head."""
        return None

    def ended(self, jobs: Collection[str]) -> dict[str, End]:
        """The tasks that are over, and what Ray says of those that were lost."""
        import ray

        held = {self.tasks[job]: job for job in jobs if job not in self.dead}
        if held:
            ready, _ = ray.wait(list(held), num_returns=len(held), timeout=0)
            self.dead |= {held[reference]: _end(reference) for reference in ready}
        return {job: self.dead[job] for job in jobs if job in self.dead}

    def cancel(self, job: str) -> None:
        """Forgets a task that is over."""
        self.tasks.pop(job, None)
        self.dead.pop(job, None)


def _end(reference: Any) -> End:
    import ray
    from ray import exceptions

    try:
        ray.get(reference)
    except exceptions.OutOfMemoryError:
        return End("its node ran out of memory", "halve")
    except exceptions.RayTaskError as error:
        return End(str(error).strip().splitlines()[-1])
    except (exceptions.NodeDiedError, exceptions.LocalRayletDiedError):
        return End("its node was lost", "again")
    except exceptions.RayError as error:
        return End(f"its worker was lost ({type(error).__name__})")
    return End("its task ended without a result", patience=SECONDS_TO_BE_SEEN)


def _knock(address: str) -> None:
    """Raises `OSError` where an address names a host and a port that nobody answers at."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_TIMEOUT).close()
