"""What makes a configuration valid, as far as it can be told without data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from initstudy.config.run import Plain, Run, flatten, identity
from initstudy.config.schema import (
    SGD,
    Adam,
    Checkpoint,
    Config,
    Data,
    Executor,
    Local,
    Optimizer,
    Planner,
    Probes,
    Ray,
    Slurm,
    Tracking,
)

MAX_SEED = 2**63 - 1
EXECUTORS = {"local": Local, "slurm": Slurm, "ray": Ray}
SAVED = ("none", "init", "final", "both")


class ConfigError(ValueError):
    """What a user got wrong, in one line: the key, the value, what would be right."""


def make_run(
    cfg: DictConfig, overrides: Sequence[str] = (), choices: Mapping[str, str] | None = None
) -> Run:
    """A composed configuration as a run, validated as far as it can be without data.

    Raises:
        ConfigError: A value is out of its range, or a target does not take an argument.
    """
    config: Plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return as_run(config, overrides, choices)


def as_run(
    plain: Plain, overrides: Sequence[str] = (), choices: Mapping[str, str] | None = None
) -> Run:
    """A configuration of plain values as a run, validated likewise; it shares the values.

    Raises:
        ConfigError: A value is out of its range, or a target does not take an argument.
    """
    config = {key: value for key, value in plain.items() if key != "hydra"}
    _require(config)
    for group in ("model", "init"):
        config[group] = _fit_to_target(group, config[group], overrides)
    _validate(config)
    named = {k: str(v) for k, v in (choices or {}).items() if k in ("model", "init")}
    return Run(config, tuple(overrides), identity(config), named)


def _validate(config: Plain) -> None:
    _integer(config, "seed", low=0, high=MAX_SEED)
    for key in ("epochs", "batch_size", "log_every", "eval_every", "probes.every"):
        _integer(config, key, low=1)
    for key in ("max_steps", "data.subset"):
        if _get(config, key) is not None:
            _integer(config, key, low=1)
    for key in ("claims", "paper"):
        if not isinstance(config[key], Mapping):
            raise ConfigError(f"{key}={config[key]}: must be a mapping, as in conf/sweep")
    excluded = config["exclude"]
    if not isinstance(excluded, list) or not all(isinstance(e, Mapping) for e in excluded):
        raise ConfigError(
            f"exclude={excluded}: must be a list of mappings, such as [{{model: mlp, init: dirac}}]"
        )
    _seconds(config, "checkpoint.every")
    _choice(config, "optimizer.name", ("sgd", "adam", "adamw"))
    _choice(config, "probes.preset", ("off", "basic", "full"))
    _choice(config, "save_weights", SAVED)
    _choice(config, "tracking.mode", ("offline", "online", "off"))
    _validate_executor(config)
    for key in ("planner.pack_size", "planner.workers"):
        if _get(config, key) is not None:
            _integer(config, key, low=1)
    _choice(config, "planner.timing", ("remembered", "anew", "off"))
    if config["criterion"] is not None:
        _number(config, "criterion", positive=True, high=1)
    for key in ("across", "tune"):
        if config[key] is not None and config[key] not in {*flatten(config), "init", "model"}:
            raise ConfigError(f"{key}={config[key]}: is no key of the configuration")
    optimizer = config["optimizer"]
    if optimizer.get("base_width") is not None:
        _integer(config, "optimizer.base_width", low=1)
    _number(config, "optimizer.lr", positive=True)
    for key in set(optimizer) & {"weight_decay", "momentum"}:
        _number(config, f"optimizer.{key}")
    unknown = set(optimizer) - set(vars(SGD()) if optimizer["name"] == "sgd" else vars(Adam()))
    if unknown:
        key = sorted(unknown)[0]
        raise ConfigError(f"optimizer.{key}: {optimizer['name']} does not have it")
    if optimizer.get("nesterov") and optimizer.get("momentum") == 0:
        raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0")


def _validate_executor(config: Plain) -> None:
    _choice(config, "executor.name", tuple(EXECUTORS))
    section = config["executor"]
    unknown = set(section) - {field.name for field in fields(EXECUTORS[section["name"]])}
    if unknown:
        key = sorted(unknown)[0]
        raise ConfigError(f"executor.{key}: executor={section['name']} does not have it")
    on_slurm = section["name"] == "slurm"
    lowest = {
        "workers": 1,
        "retries": 0,
        "requeues": 0,
        "memory": 1,
        "time": 1,
        "notice": 1,
        "array_size": 1,
        "array_parallelism": 1,
        "packs_per_job": 1,
        **({"cpus": 1, "gpus": 0} if on_slurm else {}),
    }
    for key in section.keys() & lowest.keys():
        if section[key] is not None or key not in ("workers", "memory"):
            _integer(config, f"executor.{key}", low=lowest[key])
    if on_slurm:
        _number(config, "executor.poll", positive=True)
        if not isinstance(section["sbatch"], dict):
            raise ConfigError(
                f"executor.sbatch={section['sbatch']}: must be options of sbatch and their values, "
                "such as {account: mine}"
            )
    elif section["name"] == "ray":
        _number(config, "executor.cpus", positive=True)
        _number(config, "executor.gpus")


def _get(config: Plain, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _require(config: Plain) -> None:
    """Every key of the schema is there; Hydra's `~` can delete one."""
    section = config.get("executor")
    name = str(section.get("name")) if isinstance(section, Mapping) else ""
    groups = {
        "data": Data,
        "optimizer": Optimizer,
        "probes": Probes,
        "tracking": Tracking,
        "executor": EXECUTORS.get(name, Executor),
        "planner": Planner,
        "checkpoint": Checkpoint,
    }
    names = [field.name for field in fields(Config)]
    names += [f"{group}.{f.name}" for group, schema in groups.items() for f in fields(schema)]
    present = flatten(config).keys() | config.keys()
    present |= {f"executor.{key}" for key in section} if isinstance(section, Mapping) else set()
    for name in names:
        if name not in present and not name.endswith("base_width"):
            raise ConfigError(f"{name}: missing; it cannot be deleted")


def _integer(config: Plain, key: str, low: int, high: int | None = None) -> None:
    value = _get(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{key}={value}: must be a whole number of at least {low}")
    if high is not None and value > high:
        raise ConfigError(f"{key}={value}: must be at most {high}")


def _number(config: Plain, key: str, positive: bool = False, high: float = math.inf) -> None:
    value = _get(config, key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        bound = "above 0" if positive else "of at least 0"
        raise ConfigError(f"{key}={value}: must be a finite number {bound}")
    if value > high:
        raise ConfigError(f"{key}={value}: must be at most {high:g}")


def _seconds(config: Plain, key: str) -> None:
    value = _get(config, key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and math.isfinite(value) and value >= 0):
        raise ConfigError(f"{key}={value}: must be a number of seconds, such as 60, or null")


def _choice(config: Plain, key: str, choices: tuple[str, ...]) -> None:
    value = _get(config, key)
    if value not in choices:
        raise ConfigError(f"{key}={value}: choose one of {', '.join(choices)}")


def _fit_to_target(group: str, section: Any, overrides: Sequence[str]) -> Plain:
    """Leaves out what a user's own target does not take, unless the user named it."""
    target = section.get("_target_") if isinstance(section, dict) else None
    if not isinstance(target, str):
        raise ConfigError(f"{group}._target_: missing; name the class or function to build")
    if target.startswith("initstudy."):
        return section
    accepted = accepted_arguments(group, target)
    if accepted is None:
        return section
    named = {o.lstrip("+").split("=", 1)[0] for o in overrides}
    fitted = {}
    for key, value in section.items():
        if key.startswith("_") or key in accepted or (group, key) == ("init", "bias"):
            fitted[key] = value
        elif f"{group}.{key}" in named:
            takes = ", ".join(sorted(accepted)) or "no arguments"
            raise ConfigError(f"{group}.{key}={value}: {target} takes {takes}")
    return fitted


def accepted_arguments(group: str, target: str) -> set[str] | None:
    """The names of a target's arguments, or None where it takes any.

    Raises:
        ConfigError: There is no such target.
    """
    from hydra.utils import get_object

    try:
        parameters = inspect.signature(get_object(target)).parameters.values()
    except Exception as error:
        # Importing a user's module runs it: anything may be raised.
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise ConfigError(
            f"{group}._target_={target}: cannot be loaded from {Path.cwd()}: {reason}"
        ) from error
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}
