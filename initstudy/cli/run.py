"""`initstudy [run]` and `python -m initstudy`: trains the runs of a configuration or of a grid."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from initstudy.cli import footprint, hydra_app
from initstudy.cli.arguments import error_beside_a_grid, is_no_choice, options_first, parse
from initstudy.cli.invocation import given
from initstudy.cli.sweeps import RUNS_FAILED, NoValueError, Search, direction_of, values_of
from initstudy.config import ConfigError, check_grid, make_run
from initstudy.config.messages import refuse
from initstudy.store import StoreError

USERS_FAULTS = (ConfigError, StoreError, HydraException, OmegaConfBaseException, OSError)


class Refused(SystemExit):
    """Carries what a user got wrong out of Hydra, which reports exceptions itself, but no exits."""


class Application:
    """What Hydra calls with a single run's configuration.

    Attributes:
        command: The command that was given. Hydra hands this object to the launcher too, so that a
            grid knows the command as well.
        search: What a sweeper has launched in batches, if one does; its report comes last.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.search: Search | None = None

    def __call__(self, cfg: DictConfig) -> float | None:
        """Trains the run as a study of its own, and returns what a sweeper looks for."""
        try:
            return self._train(cfg)
        except USERS_FAULTS as error:
            raise Refused from error

    def _train(self, cfg: DictConfig) -> float | None:
        from initstudy.scheduling.study import study

        job = HydraConfig.get()
        # As they were given: `optimizer.lr=${init.std}` is no interpolation of Hydra's own section.
        overrides: Any = OmegaConf.to_container(job.overrides.task, resolve=False)
        run = make_run(cfg, overrides, job.runtime.choices)
        check_grid([run])
        # Hydra's basic launcher hands over the runs of a grid one at a time.
        alone = job.mode is RunMode.RUN
        directory = Path(job.runtime.output_dir)
        accept = None if alone else direction_of(OmegaConf.create({"hydra": job}))
        trained = study([run], cfg, directory, command=self.command, report=alone, accept=accept)
        if trained.failed:
            sys.exit(RUNS_FAILED)
        if not alone:
            self.search = Search(directory, run.config, failed=False)
        (value,) = values_of(directory, [run], trained)
        return None if isinstance(value, Exception) else value


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        SystemExit: Hydra has answered a question such as `--info`, or runs have failed (code 3).
    """
    footprint.begin()
    application = Application(given())
    ordered = options_first(arguments)
    error: BaseException | None
    try:
        parse(ordered)
        try:
            hydra_app.call(application, ordered)
        except NoValueError:
            # The sweeper gives up; standard error has said of every run why it failed.
            assert application.search is not None
        if application.search is not None:
            application.search.end()
        return 0
    except Refused as refused:
        error = refused.__cause__
    except (*USERS_FAULTS, ValueError) as raised:
        error = raised
    assert error is not None
    if isinstance(error, BrokenPipeError) or not is_users_fault(error):
        raise error
    footprint.remove()
    if os.environ.get(hydra_app.TRACEBACKS) == "1":
        raise error
    return refuse(better_named(error, ordered))


def parser() -> argparse.ArgumentParser:
    """The parser of the command's options, which is Hydra's."""
    return get_args_parser()


def is_users_fault(error: BaseException) -> bool:
    """Whether an error is one of `USERS_FAULTS`, or a ValueError that Hydra itself has raised."""
    if isinstance(error, USERS_FAULTS):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith("hydra.")


def better_named(error: BaseException, arguments: Sequence[str]) -> BaseException:
    """The error that says more to the user than the one that Hydra has met first."""
    if isinstance(error, ConfigCompositionException) and "--multirun" in str(error):
        return error_beside_a_grid(arguments) or error
    if "Config group override must be" in str(error):
        return is_no_choice(arguments) or error
    if isinstance(error, OSError) and footprint.is_in_the_way(error.filename):
        return ConfigError(f"dir={error.filename}: cannot be made: {error.strerror}")
    return error
