"""Which backend a configuration asks for, and what an earlier command has left with one.

`executor=NAME` is the module NAME of this package, whose function `backend` makes it. Another
backend is another module, and its keys in `config/schema.py` and `conf/executor`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from initstudy.config import ConfigError, Plain
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.backends.contract import Backend, Finished
from initstudy.scheduling.backends.mailbox import Task


def choose(config: Plain, directory: Path) -> Backend:
    """The backend that a configuration asks for; nothing is started yet.

    Args:
        config: The configuration of a run.
        directory: The directory of the study.

    Raises:
        ConfigError: It cannot be had here.
    """
    # Each may need an extra; the others need not be installed.
    module = import_module(f"{__package__}.{config['executor']['name']}")
    return module.backend(config, directory)


@dataclass(frozen=True)
class UnderWay:
    """The packs that an earlier command has submitted, as it handed them over.

    Attributes:
        directory: The directory of the study.
        done: The packs that are done, and whose results were not taken in.
        held: The packs that the backend still has.
    """

    directory: Path
    done: tuple[Task, ...] = ()
    held: tuple[Task, ...] = ()

    @property
    def tasks(self) -> list[Task]:
        """All of them."""
        return [*self.done, *self.held]

    def results(self) -> Iterator[tuple[str, Finished]]:
        """How the packs that are done ended; each is forgotten when the next one is asked for."""
        for task in self.done:
            done = mailbox.read_done(self.directory, task.pack)
            assert done is not None
            yield task.pack, Finished(done.stored, done.failed)
            mailbox.forget(self.directory, task.pack)


def submitted(directory: Path) -> UnderWay:
    """What an earlier command has submitted and did not take in; everything stays as it is."""
    return UnderWay(directory, held=tuple(mailbox.tasks(directory)))


def under_way(backend: Backend, directory: Path) -> UnderWay:
    """What an earlier command has submitted and did not take in; the backend adopts it.

    Args:
        backend: The backend of this command.
        directory: The directory of the study.

    Raises:
        ConfigError: Jobs of another backend may still train packs of the study, or the backend
            does not say what it has.
    """
    finished, held = [], []
    for task in mailbox.tasks(directory):
        submission = mailbox.read_submission(directory, task.pack)
        done = mailbox.read_done(directory, task.pack)
        if done is not None and done.error is None:
            finished.append(task)
        elif done is not None or submission is None or not submission.outlives:
            # Its job has given up, or ended with its coordinator, or there was never one.
            mailbox.forget(directory, task.pack)
        elif submission.backend != backend.name:
            raise ConfigError(
                f"executor={backend.name}: packs of this sweep are with {submission.backend}, as "
                f"job {submission.job}; continue with executor={submission.backend}, or cancel "
                f"such jobs there and remove {directory / mailbox.FOLDER}"
            )
        elif backend.adopt(task):
            held.append(task)
        else:
            mailbox.forget(directory, task.pack)
    return UnderWay(directory, tuple(finished), tuple(held))
