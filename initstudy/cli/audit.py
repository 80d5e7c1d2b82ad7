"""`initstudy audit model=cnn init=torch_default`: what a model really starts from."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initstudy.cli.parser import Parser

if TYPE_CHECKING:
    from torch import Tensor

    from initstudy.api.trial import Arm
    from initstudy.audit import Audit
    from initstudy.config import Plain, Run

DESCRIPTION = """\
Says what a model starts from, parameter by parameter, and what that does to signal and gradient.

  python -m initstudy.audit model=cnn init=torch_default
  initstudy audit model=mlp model.depth=20 init=normal init.std=0.1 --strict
  initstudy audit model._target_=mine.Net --json
  initstudy audit model.depth=30 init=torch --repair --try

A model of your own is audited as its constructor makes it, unless an `init` is given."""
OVERRIDES = "The groups and keys that KEY=VALUE takes are those of `initstudy --help`."
# The cures that textbooks name first.
TEXTBOOK = ("kaiming_normal", "orthogonal")


def main(arguments: Sequence[str]) -> int:
    """Prints an audit; returns 0, or 1 if `--strict` is given and there are warnings."""
    given = parser().parse_intermixed_args(arguments)
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from initstudy.config.messages import refuse

    try:
        words = with_own_start(given.overrides)
        result = run(words, given.config_dir)
        tried = try_out(words, result, given.config_dir) if given.try_ else None
    except BrokenPipeError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        return refuse(error)
    _print(result, tried, given)
    return 1 if given.strict and result.warnings else 0


def _print(result: Audit, tried: list[Arm] | None, given: Namespace) -> None:
    from initstudy.audit.result import plain

    repair = result.repair() if given.repair or given.try_ else None
    if given.json:
        found = result.as_dict()
        if repair is not None:
            found["repair"] = {"python": repair.python(), "yaml": repair.yaml()}
        if tried is not None:
            found["trial"] = [asdict(arm) for arm in tried]
        sys.stdout.write(json.dumps(plain(found), indent=2, ensure_ascii=False) + "\n")
        return
    from rich.console import Console

    from initstudy.audit import show

    show(Console(), result, every=given.every)
    if repair is not None:
        text = repair.python() or "there is nothing to repair"
        sys.stdout.write(f"\nrepair\n\n{text}\n")
        if repair.rules:
            sys.stdout.write(f"\nas a file of conf/init\n\n{repair.yaml()}")
    for arm in tried or []:
        sys.stdout.write(f"{arm}\n")


def with_own_start(overrides: Sequence[str]) -> list[str]:
    """The overrides, with `init=own` for a model of the user's own where no `init` is given.

    Args:
        overrides: What to set in the configuration.

    Example:
        >>> from initstudy.cli.audit import with_own_start
        >>> with_own_start(["model._target_=mine.Net"])
        ['model._target_=mine.Net', 'init=own']
    """
    keys = [word.lstrip("+~").partition("=")[0] for word in overrides]
    own = "model._target_" in keys and not any(k.partition(".")[0] == "init" for k in keys)
    return [*overrides, "init=own"] if own else list(overrides)


def try_out(overrides: Sequence[str], result: Audit, config_dir: Path | None) -> list[Arm]:
    """Trains the model as it starts, as repaired, and by two textbook cures, in one pack.

    Args:
        overrides: What to set in the configuration.
        result: The model's audit.
        config_dir: A folder with further configurations.

    Raises:
        ConfigError: Something in the configuration is wrong, or there is nothing to compare.
    """
    from initstudy.api.compose import init_sections
    from initstudy.api.trial import trial
    from initstudy.config import ConfigError
    from initstudy.config.command_line import with_folder
    from initstudy.initializers import ModelPolicy, Policy
    from initstudy.training import factory

    repair = result.repair()
    if not repair.rules:
        said = "there is nothing to repair" if not repair else f"it is: {repair.python()}"
        raise ConfigError(f"--try: compares initial weights, and the repair changes none; {said}")
    section = configured(overrides, config_dir).config["init"]
    chosen = factory.policy(section)
    rules = list(repair.rules)
    repaired = rules + chosen if isinstance(chosen, Policy | ModelPolicy) else repair.policy
    arms = {"as it starts": section, "repaired": repaired, **init_sections(TEXTBOOK)}
    words = [
        word
        for word in overrides
        if word.lstrip("+~").partition("=")[0].partition(".")[0]
        not in ("init", "seed", "max_steps", "name", "dir", "tracking", "probes")
    ]
    guessing = result.signal.guessing_loss or result.signal.loss or 0.0
    with redirect_stdout(sys.stderr):
        return trial(with_folder(words, config_dir), arms, guessing)


def parser() -> Parser:
    """The command's parser."""
    parser = Parser("audit", DESCRIPTION, OVERRIDES)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the configuration")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 on warnings")
    parser.add_argument("--every", action="store_true", help="show every parameter and layer")
    parser.add_argument("--repair", action="store_true", help="print a policy that repairs it")
    parser.add_argument(
        "--try",
        dest="try_",
        action="store_true",
        help="train it as it starts, as repaired, and by two textbook cures",
    )
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
    configured_run = configured(overrides, config_dir)
    # torch takes a second to import; a wrong word is refused before that.
    from initstudy.audit import audit_model
    from initstudy.initializers.own import Own
    from initstudy.tasks import Batches
    from initstudy.training import factory, tasks
    from initstudy.training.config import TrainingConfig, order_seeds, split_seed
    from initstudy.trees import arguments, map_tensors

    settings, config = configured_run.config, TrainingConfig.of(configured_run.config)
    fraction, seed = config.data.get("validation"), split_seed(configured_run)
    data = tasks.hold_out(tasks.load(config.data), fraction, seed or 0)
    factory.check_batch_size(config, data)
    task = tasks.task(config, data)
    device = factory.device(settings["device"])
    model = factory.model(config.model, task)
    values, _ = factory.draw(configured_run, model, task)
    model.load_state_dict(values, strict=False)
    batch = Batches(data, order_seeds([configured_run]), config.batch_size)(0)
    inputs, targets = (map_tensors(lambda t: t[0].to(device), tree) for tree in batch)
    positional, named = arguments(inputs)
    keywords: dict[str, Any] = dict(named)
    chosen = factory.policy(settings["init"])
    policy = None if isinstance(chosen, Own) else chosen
    model = model.to(device)
    rate = _learning_rate(overrides, settings)
    if task.classifies:
        return audit_model(
            model, *positional, targets=targets, policy=policy, learning_rate=rate, **keywords
        )

    def loss(output: object) -> Tensor:
        return task.losses(output, targets).mean()

    return audit_model(model, *positional, loss=loss, policy=policy, learning_rate=rate, **keywords)


def configured(overrides: Sequence[str], config_dir: Path | None = None) -> Run:
    """The run that overrides describe.

    Args:
        overrides: What to set in the configuration.
        config_dir: A folder with further configurations.

    Raises:
        ConfigError: Something in it is wrong.
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
    return make_run(cfg, overrides)


def _learning_rate(overrides: Sequence[str], settings: Plain) -> float | None:
    """The step of gradient descent that a given learning rate amounts to, if one is given.

    With momentum β the largest stable rate is 1 + β times that of plain gradient descent.
    """
    section = settings["optimizer"]
    asked = any(word.startswith("optimizer.lr=") for word in overrides)
    if not asked or section.get("name") != "sgd":
        return None
    return float(section["lr"]) / (1 + float(section.get("momentum") or 0.0))
