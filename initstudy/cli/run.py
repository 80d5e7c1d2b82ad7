"""The command as a Hydra application."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from initstudy.config import ConfigError, make_run, register
from initstudy.config.errors import CONF, refuse
from initstudy.store import StoreError

EXPLAIN = "--explain"


def one(cfg: DictConfig) -> None:
    """A single run: a study of one."""
    from initstudy.scheduling.study import study

    job = HydraConfig.get()
    overrides = list(job.overrides.task)
    alone = job.mode is RunMode.RUN
    directory = Path(job.runtime.output_dir)
    run = make_run(cfg, overrides, job.runtime.choices)
    study([run], cfg, directory, overrides, report=alone)


def enter() -> None:
    """Runs the command; what a user got wrong is one line and exit code 2."""
    if EXPLAIN in sys.argv[1:]:
        from initstudy.cli.explain import main

        sys.exit(main([word for word in sys.argv[1:] if word != EXPLAIN]))
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra would print a trace and leave with code 1; with this it hands the error over.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # wandb logs into its run's folder: on a full disk each line would print a trace.
    logging.raiseExceptions = wants_traceback
    register()
    try:
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(one)()
    except (ConfigError, StoreError, HydraException, OmegaConfBaseException, OSError) as error:
        if wants_traceback:
            raise
        sys.exit(refuse(error))
