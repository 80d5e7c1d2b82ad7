"""`initstudy audit model=cnn init=torch_default`: what a model really starts from."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from initstudy.cli.parser import Parser

if TYPE_CHECKING:
    from torch import Tensor

    from initstudy.audit import Audit

DESCRIPTION = """\
Says what a model starts from, parameter by parameter, and what that does to signal and gradient.

  python -m initstudy.audit model=cnn init=torch_default
  initstudy audit model=mlp model.depth=20 init=normal init.std=0.1 --strict
  initstudy audit model._target_=mine.Net init=kaiming_normal --json"""
OVERRIDES = "The groups and keys that KEY=VALUE takes are those of `initstudy --help`."


def main(arguments: Sequence[str]) -> int:
    """Prints an audit; returns 0, or 1 if `--strict` is given and there are warnings."""
    given = parser().parse_intermixed_args(arguments)
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from initstudy.config.messages import refuse

    try:
        result = run(given.overrides, given.config_dir)
    except BrokenPipeError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        return refuse(error)
    if given.json:
        sys.stdout.write(json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        from initstudy.audit import show

        show(Console(), result)
    return 1 if given.strict and result.warnings else 0


def parser() -> Parser:
    """The command's parser."""
    parser = Parser("audit", DESCRIPTION, OVERRIDES)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the configuration")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 on warnings")
    parser.add_argument("--config-dir", type=Path, help="a folder with configurations of yours")
    return parser


def run(overrides: Sequence[str], config_dir: Path | None = None) -> Audit:
    """Builds and fills the configured model, and audits it on its first training batch.

    Args:
        overrides: What to set in the configuration, as Hydra takes it.
        config_dir: A folder with further configurations.

    Raises:
        ConfigError: Something in the configuration is wrong.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import open_dict

    from initstudy.config import make_run, register
    from initstudy.config.command_line import with_folder
    from initstudy.config.paths import CONF

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", with_folder(overrides, config_dir))
    with open_dict(cfg):
        cfg.name = "audit"
    configured = make_run(cfg, overrides)
    # torch takes a second to import; a wrong word is refused before that.
    from initstudy.audit import audit_model
    from initstudy.initializers.own import Own
    from initstudy.tasks import Batches
    from initstudy.training import factory, tasks
    from initstudy.training.config import TrainingConfig, order_seeds, split_seed
    from initstudy.trees import arguments, map_tensors

    plain, config = configured.config, TrainingConfig.of(configured.config)
    fraction, seed = config.data.get("validation"), split_seed(configured)
    data = tasks.hold_out(tasks.load(config.data), fraction, seed or 0)
    factory.check_batch_size(config, data)
    task = tasks.task(config, data)
    device = factory.device(plain["device"])
    model = factory.model(config.model, task)
    values, _ = factory.draw(configured, model, task)
    model.load_state_dict(values, strict=False)
    batch = Batches(data, order_seeds([configured]), config.batch_size)(0)
    inputs, targets = (map_tensors(lambda t: t[0].to(device), tree) for tree in batch)
    positional, keywords = arguments(inputs)
    chosen = factory.policy(plain["init"])
    policy = None if isinstance(chosen, Own) else chosen
    model = model.to(device)
    if task.classifies:
        return audit_model(model, *positional, targets=targets, policy=policy, **keywords)

    def loss(output: object) -> Tensor:
        return task.losses(output, targets).mean()

    return audit_model(model, *positional, loss=loss, policy=policy, **keywords)
