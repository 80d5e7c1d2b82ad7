"""The command: `python -m initstudy.audit model=cnn init=torch_default [--json] [--strict]`."""

from __future__ import annotations

import json
import sys

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from initstudy.audit import Audit, audit, show
from initstudy.config import ConfigError, make_run, register
from initstudy.config.errors import CONF, refuse
from initstudy.tasks.data import Batches
from initstudy.training import factory
from initstudy.training.config import TrainingConfig

USAGE = """\
What a model starts from, parameter by parameter, and what that does to signal and gradient.

  python -m initstudy.audit model=cnn init=torch_default
  python -m initstudy.audit model=mlp model.depth=20 init=normal init.std=0.1 --strict
  python -m initstudy.audit model._target_=mine.Net init=kaiming_normal --json

Takes the groups and keys of `python -m initstudy` (see its --help) and

  --json    print JSON instead of tables
  --strict  exit with code 1 when there are warnings
"""
FLAGS = ("--json", "--strict")


def run(overrides: list[str]) -> Audit:
    """Builds and fills the configured model, and audits it on its first training batch.

    Raises:
        ConfigError: Something in the configuration is wrong.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides)
    with open_dict(cfg):
        cfg.name = "audit"
    configured = make_run(cfg, overrides)
    plain, config = configured.config, TrainingConfig.of(configured.config)
    data = factory.dataset(config.data)
    factory.check_batch_size(config, data)
    device = factory.device(plain["device"])
    model = factory.model(config.model, data)
    values, _ = factory.draw(configured, model, data)
    model.load_state_dict(values, strict=False)
    x, y = Batches(data, [plain["seed"]], config.batch_size)(0)
    policy = factory.policy(plain["init"])
    return audit(model.to(device), x[0].to(device), y[0].to(device), policy=policy)


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code."""
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return 0
    unknown = [a for a in arguments if a.startswith("--") and a not in FLAGS]
    if unknown:
        return refuse(ConfigError(f"{unknown[0]}: unknown flag; choose from {', '.join(FLAGS)}"))
    try:
        found = run([a for a in arguments if a not in FLAGS])
    except (ConfigError, HydraException, OmegaConfBaseException, ValueError) as error:
        return refuse(error)
    if "--json" in arguments:
        sys.stdout.write(json.dumps(found.as_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        show(Console(), found)
    return 1 if "--strict" in arguments and found.warnings else 0
