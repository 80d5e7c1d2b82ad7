"""The door from Hydra's multirun to initstudy: all jobs of a grid arrive at once.

Every Hydra application of the environment loads this file, so it imports initstudy only when a grid
is launched.
"""

# Hydra runs this file outside sys.modules, where dataclasses cannot resolve annotations that are
# text. So, unlike every other module, it does without `from __future__ import annotations`.
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
    """Hands all jobs of a grid to initstudy, which decides what trains together."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what `launch` needs."""
        self.loader = hydra_context.config_loader
        self.config = config
        # Another program's function does not know by which command it was called.
        self.command: str | None = getattr(task_function, "command", None)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Trains every job that is not finished yet and writes the report."""
        from initstudy.cli.invocation import given
        from initstudy.config.compose import compose_jobs
        from initstudy.scheduling.study import study

        runs = compose_jobs(self.loader, self.config, job_overrides)
        hydra: Any = self.config.hydra
        study(runs, self.config, Path(hydra.sweep.dir), command=self.command or given())
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]
