"""What Hydra's sweepers launch: a whole grid at once, or batches of a search."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from initstudy.config import ConfigError, Plain, Run
from initstudy.config.compose import distinct

if TYPE_CHECKING:
    from initstudy.columns import Schema
    from initstudy.scheduling.study import Trained

RUNS_FAILED = 3
HIGHER, LOWER = "higher", "lower"
# How the plugins of Hydra say that large values are good: their keys, and the value that says so.
# https://hydra.cc/docs/plugins/optuna_sweeper, nevergrad_sweeper, ax_sweeper
DIRECTIONS: dict[str, Any] = {
    "hydra.sweeper.direction": "maximize",
    "hydra.sweeper.optim.maximize": True,
    "hydra.sweeper.ax_config.experiment.minimize": False,
}
OPPOSITE: dict[Any, Any] = {"maximize": "minimize", True: False, False: True}


class NoValueError(RuntimeError):
    """A job of a search has no value: its run failed, or `exclude` names it."""


@dataclass(frozen=True)
class Search:
    """A study that a sweeper launches in batches, and whose report is drawn after the last one.

    Attributes:
        directory: The study's directory.
        config: The configuration of its first run.
        failed: Whether any run of it has failed.
    """

    directory: Path
    config: Plain
    failed: bool

    def end(self) -> None:
        """Draws the report.

        Raises:
            SystemExit: With code 3, runs have failed.
        """
        from initstudy.scheduling.study import report_alone

        report_alone(self.directory, self.config)
        if self.failed:
            sys.exit(RUNS_FAILED)


def launch_all(runs: Sequence[Run], config: DictConfig, command: str) -> list[float | Exception]:
    """Trains all jobs of a grid and writes the report.

    Args:
        runs: One run per job.
        config: The configuration of the grid as a whole.
        command: The command that was given.

    Returns:
        The value by which the study selects, of each job; an error for those that `exclude` names.

    Raises:
        SystemExit: With code 3, runs have failed; the others are trained and reported.
    """
    from initstudy.scheduling.study import study

    directory = Path(config.hydra.sweep.dir)
    trained = study(distinct(runs), config, directory, command=command)
    if trained.failed:
        sys.exit(RUNS_FAILED)
    return values_of(directory, runs, trained)


def launch_batch(
    runs: Sequence[Run], config: DictConfig, command: str, application: Any
) -> list[float | Exception]:
    """Trains one batch of a search.

    Args:
        runs: One run per job.
        config: The configuration of the search as a whole.
        command: The command that was given.
        application: What Hydra would call with a single run; it is told what to report at the end.

    Returns:
        The value by which the study selects, of each job, or an error in its place. A run that
        diverged has the worst value that there is.

    Raises:
        ConfigError: Something is wrong, such as a sweeper that searches in the wrong direction.
    """
    from initstudy.scheduling.study import Trained, study

    directory = Path(config.hydra.sweep.dir)
    trained = Trained()
    if kept := distinct(runs):
        accept = direction_of(config)
        trained = study(kept, config, directory, command=command, report=False, accept=accept)
        if hasattr(application, "search"):
            failed_before = application.search is not None and application.search.failed
            failed = failed_before or bool(trained.failed)
            application.search = Search(directory, kept[0].config, failed)
    return values_of(directory, runs, trained)


def values_of(directory: Path, runs: Sequence[Run], trained: Trained) -> list[float | Exception]:
    """The value by which the study selects, of each run, or an error in its place.

    Args:
        directory: The study's directory.
        runs: The runs as they were composed.
        trained: What has become of them.
    """
    from initstudy import store
    from initstudy.columns import Schema

    schema = Schema.described(store.read_study(directory))
    stored = store.summaries(directory, schema.selection)
    values: list[float | Exception] = []
    for run in runs:
        run_id = trained.ids.get(run.id)
        if run_id in stored:
            values.append(_finite(stored[run_id], schema))
        else:
            values.append(NoValueError(trained.failed.get(run.label, f"{run.label}: excluded")))
    return values


def _finite(value: float | None, schema: Schema) -> float:
    """A value for a sweeper, which takes no NaN: what is not finite is as bad as can be."""
    if value is not None and isfinite(value):
        return value
    if schema.better(schema.selection) == LOWER:
        return inf
    metric = schema.metric(schema.selection)
    return 0.0 if metric is not None and metric.fraction else -inf


def direction_of(config: DictConfig) -> Callable[[Schema], None]:
    """What refuses a search whose sweeper would look for the worst runs."""

    def accept(schema: Schema) -> None:
        better = schema.better(schema.selection)
        for key, maximizes in DIRECTIONS.items():
            given: Any = OmegaConf.select(config, key)
            if given is None:
                continue
            if OmegaConf.is_list(given):
                if len(given) != 1:
                    raise ConfigError(f"{key}={given}: a study has one objective, so name one")
                given = given[0]
            given = getattr(given, "name", given)
            right = maximizes if better == HIGHER else OPPOSITE[maximizes]
            if given != right:
                written = str(right).lower() if isinstance(right, bool) else right
                raise ConfigError(
                    f"{key}={str(given).lower()}: {schema.selection} is better when it is "
                    f"{better}; set {key}={written}"
                )

    return accept
