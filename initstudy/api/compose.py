"""Composing a configuration from Python, beside whatever else uses Hydra in the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from initstudy.config import ConfigError, Plain
from initstudy.config.command_line import Grid, compose_grid
from initstudy.config.messages import one_line


def composed(words: Sequence[str]) -> Grid:
    """The grid that overrides describe.

    Raises:
        ConfigError: It is not valid, said in one line.
    """
    try:
        with _own_hydra():
            return compose_grid(words, multirun=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def init_sections(names: Sequence[str]) -> dict[str, Plain]:
    """The sections of conf/init of these names.

    Raises:
        ConfigError: There is no such name.
    """
    if not names:
        return {}
    runs = composed([f"init={','.join(dict.fromkeys(names))}"]).runs
    return {run.choices["init"]: run.config["init"] for run in runs}


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Within it Hydra is free for this package, even where the caller is a Hydra application."""
    instance = GlobalHydra.instance()
    before = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance.hydra = before
