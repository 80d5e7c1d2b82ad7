"""Refuses launchers of Hydra's that would start the runs of a study as jobs apart."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from initstudy.cli.run import Refused
from initstudy.config import ConfigError
from initstudy.config.launchers import TARGETS, instead_of


class Launchers(Callback):
    """Looks at the launcher before Hydra makes use of it, from `hydra.callbacks` of conf/."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the launcher, of which a single run makes no use."""
        check(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the launcher of a grid."""
        check(config)


def check(config: DictConfig) -> None:
    """Refuses a launcher that knows nothing of packs.

    Raises:
        Refused: With the ConfigError as its cause. Hydra turns the exceptions of its callbacks into
            warnings, but lets exits pass.
    """
    if config.hydra.launcher._target_ not in TARGETS:
        error = ConfigError(instead_of(config.hydra.runtime.choices["hydra/launcher"]))
        raise Refused(f"initstudy: {error}") from error
