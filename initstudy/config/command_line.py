"""From the words of a command line to the runs of its grid, without launching anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from initstudy.config import ConfigError, Run, check_grid, check_sweep, make_run, register
from initstudy.config.compose import compose_jobs
from initstudy.config.paths import CONF


@dataclass(frozen=True)
class Grid:
    """What a command line asks for.

    Attributes:
        runs: The validated runs.
        config: The composed configuration of the study as a whole.
        directory: The study's directory.
        multirun: Whether Hydra goes through its sweeper, as for every list of values.
    """

    runs: list[Run]
    config: DictConfig
    directory: Path
    multirun: bool


def compose_grid(
    overrides: Sequence[str],
    *,
    multirun: bool = False,
    config_name: str = "config",
    config_dir: str | None = None,
) -> Grid:
    """Composes a command line as Hydra does, and writes nothing.

    Args:
        overrides: The overrides, as in `init.std=0.1,0.2`.
        multirun: Whether lists of values span a grid, as Hydra's `--multirun` says. A file of
            conf/sweep that is named says so itself.
        config_name: The name of the configuration file.
        config_dir: A further folder of configuration files.

    Raises:
        ConfigError: A value is invalid.
        HydraException: Hydra cannot compose it.
        OmegaConfBaseException: A key is unknown, or a value is of another type.
    """
    register()
    words = with_folder(overrides, config_dir)
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="initstudy"):
        loader = GlobalHydra.instance().config_loader()

        def compose(mode: RunMode) -> DictConfig:
            return loader.load_configuration(config_name, words, run_mode=mode)

        if not multirun:
            whole = loader.load_configuration(
                config_name, words, run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False
            )
            multirun = whole.hydra.mode is RunMode.MULTIRUN
        if multirun:
            config = compose(RunMode.MULTIRUN)
            runs = compose_jobs(loader, config, _jobs(loader, config))
            return Grid(runs, config, Path(config.hydra.sweep.dir), multirun)
        config = compose(RunMode.RUN)
        directory = Path(config.hydra.run.dir)
        with open_dict(config):
            choices = config.pop("hydra").runtime.choices
        run = make_run(config, overrides, choices)
        check_grid([run])
        return Grid([run], config, directory, multirun)


def with_folder(overrides: Sequence[str], config_dir: str | Path | None) -> list[str]:
    """The overrides for Hydra's compose API with what `--config-dir` is to its command line.

    Raises:
        ConfigError: There is no such folder.
    """
    if config_dir is None:
        return list(overrides)
    folder = Path(config_dir).absolute()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: there is no such folder")
    return [*overrides, f"hydra.searchpath=[file://{folder}]"]


def _jobs(loader: ConfigLoader, config: DictConfig) -> list[list[str]]:
    """The overrides of each point of the grid, as Hydra's basic sweeper lists them."""
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    words = [*swept, *config.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(words)
    check_sweep(parsed)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return jobs
