"""What a command has made in a study's directory before its first training step.

Hydra makes the directory and a log file before it calls the program; the lock and the store follow
before the model is built. A command that is refused takes all of it back.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

# Files at the top of a study's directory that say nothing as long as no run has been trained.
SCAFFOLD = (".lock", "initstudy.log", "multirun.yaml", "progress.json", "study.json")


class Footprint(Callback):
    """Notes which folders are missing before Hydra makes them.

    Hydra builds its callbacks itself, from `hydra.callbacks` of conf/config.yaml, and hands them to
    nobody. So what they note belongs to the class: a process runs one command at a time.
    """

    study: ClassVar[Path | None] = None
    missing: ClassVar[tuple[Path, ...]] = ()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Notes what is missing of a single run's directory."""
        _note(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Notes what is missing of a grid's directory."""
        _note(config, "sweep")


def begin() -> None:
    """Begins a command, which has made nothing yet."""
    Footprint.study, Footprint.missing = None, ()


def is_in_the_way(path: str | None) -> bool:
    """Whether a path is the study's directory or one that contains it."""
    if path is None or Footprint.study is None:
        return False
    return Footprint.study.is_relative_to(Path(path).absolute())


def remove() -> None:
    """Takes back the study's directory if the command made it and has trained nothing there."""
    from initstudy.store import locks

    study = Footprint.study
    if study not in Footprint.missing or study is None or locks.is_locked(study):
        return
    files = [path for path in study.rglob("*") if not path.is_dir()]
    if any(file.parent != study or file.name not in SCAFFOLD for file in files):
        return
    _close_logs(study)
    for file in files:
        file.unlink()
    folders = sorted((path for path in study.rglob("*")), reverse=True)
    # The one or the other was never made, or another command writes there meanwhile.
    with suppress(OSError):
        for folder in (*folders, *Footprint.missing):
            folder.rmdir()


def _close_logs(study: Path) -> None:
    """Closes Hydra's log in the study's directory, so that nothing logs there any more."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        file = Path(handler.baseFilename) if isinstance(handler, logging.FileHandler) else None
        if file is not None and file.is_relative_to(study):
            root.removeHandler(handler)
            handler.close()


def _note(config: DictConfig, mode: str) -> None:
    try:
        study = Path(config.hydra[mode].dir).absolute()
    except OmegaConfBaseException:
        # Hydra meets the same error next, before it makes anything.
        return
    folders = (study, *study.parents)
    Footprint.study = study
    Footprint.missing = tuple(folder for folder in folders if not folder.exists())
