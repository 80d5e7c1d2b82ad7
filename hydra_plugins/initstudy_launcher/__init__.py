"""The door from Hydra's multirun to initstudy: all jobs of a grid arrive at once.

Every Hydra application of the environment loads this file, so it imports initstudy only when a grid
is launched.
"""

# Hydra runs this file outside sys.modules, where dataclasses cannot resolve annotations that are
# text. So, unlike every other module, it does without `from __future__ import annotations`.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherConf:
    """`hydra/launcher=initstudy`."""

    _target_: str = "hydra_plugins.initstudy_launcher.InitstudyLauncher"


@dataclass
class SweeperConf:
    """`hydra/sweeper=initstudy`."""

    _target_: str = "hydra_plugins.initstudy_launcher.InitstudySweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


# Sweepers that launch a grid, rather than search.
GRIDS = (SweeperConf._target_, f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}")
_store = ConfigStore.instance()
_store.store(group="hydra/launcher", name="initstudy", node=LauncherConf, provider="initstudy")
_store.store(group="hydra/sweeper", name="initstudy", node=SweeperConf, provider="initstudy")


class InitstudySweeper(BasicSweeper):
    """Hydra's basic sweeper; it checks the lists of values, and composes no job twice."""

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The overrides of each job.

        Raises:
            ConfigError: A list of values makes no sense.
        """
        from initstudy.config import check_sweep

        check_sweep(overrides)
        return BasicSweeper.split_arguments(overrides, max_batch_size)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Does nothing: the launcher validates all jobs before the first one trains."""


class InitstudyLauncher(Launcher):
    """Hands all jobs of a grid to initstudy, which decides what trains together.

    A sweeper that searches, such as Optuna's, launches a grid in batches, and gets the objective of
    every run in return.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what `launch` needs."""
        self.loader = hydra_context.config_loader
        self.config = config
        # Another program's function does not know by which command it was called.
        self.application = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Trains every job that is not finished yet, and writes the report after the last one.

        Returns:
            For each job the final value of what the study selects by: the objective, on validation
            data if there are such. For a search, a run that failed, and one that `exclude` names,
            has an error in its place.
        """
        from initstudy.cli.invocation import given
        from initstudy.cli.sweeps import launch_all, launch_batch
        from initstudy.config.compose import compose_each

        runs = compose_each(self.loader, self.config, job_overrides)
        command = getattr(self.application, "command", None) or given()
        sweeper: Any = self.config.hydra.sweeper
        is_grid = sweeper._target_ in GRIDS
        if is_grid and sweeper.max_batch_size is None:
            values = launch_all(runs, self.config, command)
        else:
            values = launch_batch(runs, self.config, command, self.application)
        # Hydra's own sweeper would end the grid at the first job without a value.
        shown = [None if is_grid and isinstance(value, Exception) else value for value in values]
        return [_returned(*job) for job in zip(job_overrides, shown, strict=True)]


def _returned(overrides: Sequence[str], value: float | Exception | None) -> JobReturn:
    status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
    returned = JobReturn(list(overrides), status=status)
    returned.return_value = value
    return returned
