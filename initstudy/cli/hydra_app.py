"""Calls Hydra with the arguments of a command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra

from initstudy.config import register
from initstudy.config.paths import CONF

CONFIG = "config"
TRACEBACKS = "HYDRA_FULL_ERROR"


def call(application: Any, arguments: Sequence[str]) -> None:
    """Runs Hydra on conf/.

    Errors are raised as they are; Hydra itself would print some of them as tracebacks, and leave
    with code 1.

    Args:
        application: What Hydra calls with a single run's configuration.
        arguments: What Hydra reads in place of the process's own arguments.
    """
    register()
    with _reading(arguments):
        hydra.main(config_path=str(CONF), config_name=CONFIG, version_base="1.3")(application)()


@contextmanager
def _reading(arguments: Sequence[str]) -> Iterator[None]:
    argv, tracebacks, raises = sys.argv, os.environ.get(TRACEBACKS), logging.raiseExceptions
    sys.argv = [argv[0], *arguments]
    os.environ[TRACEBACKS] = "1"
    # wandb logs into its run's folder: on a full disk each line would print a traceback.
    logging.raiseExceptions = tracebacks == "1"
    try:
        yield
    finally:
        sys.argv, logging.raiseExceptions = argv, raises
        if tracebacks is None:
            del os.environ[TRACEBACKS]
        else:
            os.environ[TRACEBACKS] = tracebacks
