"""The schema of conf/, what makes a configuration valid, and a run's identity."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

Plain = dict[str, Any]

# What cannot change a run's result, and so is no part of its identity.
WITHOUT_EFFECT = (
    "name", "dir", "by", "claims", "exclude", "device", "tracking", "executor", "data.root",
    "data.download",
)  # fmt: skip
MAX_SEED = 2**63 - 1


class ConfigError(ValueError):
    """What a user got wrong, in one line: the key, the value, what would be right."""


@dataclass
class Data:
    """Group `data`."""

    name: str = MISSING
    root: str = "data"
    download: bool = True
    subset: int | None = None


@dataclass
class Optimizer:
    """Group `optimizer`; a field that an optimizer does not know is absent from its file."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = 0.0


@dataclass
class SGD(Optimizer):
    """`optimizer=sgd`."""

    momentum: float = 0.0
    nesterov: bool = False


@dataclass
class Adam(Optimizer):
    """`optimizer=adam` and `optimizer=adamw`."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass
class Probes:
    """Group `probes`."""

    preset: str = "basic"
    every: int = 20


@dataclass
class Tracking:
    """Group `tracking`."""

    mode: str = "offline"
    project: str = "initstudy"
    entity: str | None = None


@dataclass
class Executor:
    """Group `executor`."""

    pack_size: int | None = None


@dataclass
class Config:
    """The whole configuration. `model` and `init` belong to their `_target_`s."""

    model: Any = MISSING
    init: Any = MISSING
    data: Data = MISSING
    optimizer: Any = MISSING
    probes: Probes = MISSING
    tracking: Tracking = MISSING
    executor: Executor = MISSING
    seed: int = 0
    epochs: int = 60
    max_steps: int | None = None
    batch_size: int = 32
    log_every: int = 20
    eval_every: int = 100
    device: str = "auto"
    name: str = MISSING
    dir: str = MISSING
    by: str | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    exclude: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One point of a grid.

    Attributes:
        config: The resolved configuration as plain values.
        overrides: What the user or the sweep set, as Hydra takes it.
        id: Twelve hexadecimal digits; the same for the same configuration.
        choices: The choice of each group, such as "xavier_normal" of `init`.
    """

    config: Plain
    overrides: tuple[str, ...] = ()
    id: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The overrides in short: "std=0.1 seed=2"."""
        parts = [o.lstrip("+").split("=", 1) for o in self.overrides if "=" in o]
        shown = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in parts if key != "sweep"]
        return " ".join(shown) or self.id

    def matches(self, pattern: Mapping[str, Any]) -> bool:
        """Whether the run has all these choices of groups and values of keys."""
        has = {**flatten(self.config), **self.choices}
        return all(str(has.get(key)) == str(value) for key, value in pattern.items())


def register() -> None:
    """Makes the schema and the resolvers of conf/ known to Hydra; safe to call again."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    if not OmegaConf.has_resolver("geomspace"):
        OmegaConf.register_new_resolver("geomspace", geomspace)


def geomspace(first: float, last: float, count: int) -> str:
    """`count` values spaced evenly in log, to four digits, as the text of a Hydra sweep.

    Example: `init.std: ${geomspace:0.001,4,14}`.
    """
    ratio = (last / first) ** (1 / (count - 1))
    return ",".join(f"{first * ratio**i:.4g}" for i in range(count))


def make_run(
    cfg: DictConfig, overrides: Sequence[str] = (), choices: Mapping[str, str] | None = None
) -> Run:
    """A composed configuration as a run, validated as far as it can be without data.

    Raises:
        ConfigError: A value is out of its range, or a target does not take an argument.
    """
    config: Plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    config.pop("hydra", None)
    for group in ("model", "init"):
        config[group] = _fit_to_target(group, config[group], overrides)
    _validate(config)
    named = {k: str(v) for k, v in (choices or {}).items() if k in ("model", "init")}
    return Run(config, tuple(overrides), identity(config), named)


def identity(config: Plain) -> str:
    """The hash of what can change a run's result. 1 and 1.0 are the same number."""
    relevant = {k: _canonical(v) for k, v in flatten(config).items() if not _without_effect(k)}
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(config: Mapping[str, Any], prefix: str = "") -> Plain:
    """Nested keys as dotted ones."""
    flat: Plain = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _without_effect(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in WITHOUT_EFFECT)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_canonical(v) for v in value] if isinstance(value, list | tuple) else value


def _validate(config: Plain) -> None:
    _integer(config, "seed", low=0, high=MAX_SEED)
    for key in ("epochs", "batch_size", "log_every", "eval_every", "probes.every"):
        _integer(config, key, low=1)
    for key in ("max_steps", "data.subset", "executor.pack_size"):
        if _get(config, key) is not None:
            _integer(config, key, low=1)
    _choice(config, "optimizer.name", ("sgd", "adam", "adamw"))
    _choice(config, "probes.preset", ("off", "basic", "full"))
    _choice(config, "tracking.mode", ("offline", "online", "off"))
    optimizer = config["optimizer"]
    _number(config, "optimizer.lr", positive=True)
    for key in set(optimizer) & {"weight_decay", "momentum"}:
        _number(config, f"optimizer.{key}")
    unknown = set(optimizer) - set(vars(SGD()) if optimizer["name"] == "sgd" else vars(Adam()))
    if unknown:
        key = sorted(unknown)[0]
        raise ConfigError(f"optimizer.{key}: {optimizer['name']} does not have it")
    if optimizer.get("nesterov") and optimizer.get("momentum") == 0:
        raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0")


def _get(config: Plain, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _integer(config: Plain, key: str, low: int, high: int | None = None) -> None:
    value = _get(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{key}={value}: must be a whole number of at least {low}")
    if high is not None and value > high:
        raise ConfigError(f"{key}={value}: must be at most {high}")


def _number(config: Plain, key: str, positive: bool = False) -> None:
    value = _get(config, key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        bound = "above 0" if positive else "of at least 0"
        raise ConfigError(f"{key}={value}: must be a finite number {bound}")


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
