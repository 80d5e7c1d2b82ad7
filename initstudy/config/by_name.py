"""Optimizers and schedules that a `_target_` names, rather than one of the choices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from initstudy.config.errors import ConfigError
from initstudy.config.rules import Number, Rule
from initstudy.config.run import Plain

TARGET = "_target_"
# Sections whose choices have a name and a schema, unless a target stands there.
GROUPS = ("optimizer", "schedule")
TOTAL_STEPS = "total_steps"
RULES: dict[str, Rule] = {"lr": Number(above=True), "weight_decay": Number()}


def without_empty_target(section: Any) -> Any:
    """A section without a `_target_` of null, which only says that one could stand there."""
    if isinstance(section, Mapping) and TARGET in section and section[TARGET] is None:
        return {key: value for key, value in section.items() if key != TARGET}
    return section


def has_target(section: Any) -> bool:
    """Whether a section names a target."""
    return isinstance(section, Mapping) and section.get(TARGET) is not None


def fitted(
    group: str, section: Plain, overrides: Sequence[str], target: Callable[..., Any]
) -> Plain:
    """Checks the keys that a target of a section is given.

    `optimizer._target_=torch.optim.RMSprop` changes the target alone, so that the keys of the
    default optimizer are still there. They are left out, unless the user named them. An optimizer's
    default learning rate is filled in, so that tables show it.

    Args:
        group: "optimizer" or "schedule".
        section: The section.
        overrides: What the user or the sweep set.
        target: What the target's name stands for.

    Raises:
        ConfigError: The target does not take a key, or a value is invalid.
    """
    name = str(section[TARGET])
    named = {override.lstrip("+").split("=", 1)[0] for override in overrides}
    chosen = f"{group}.{TARGET}" in named
    given = {
        key: value
        for key, value in section.items()
        if key not in ("name", TARGET) and (not chosen or f"{group}.{key}" in named)
    }
    parameters = _parameters(group, name, target)
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    reserved = {"params"} if group == "optimizer" else {TOTAL_STEPS}
    if group == "schedule" and not inspect.isclass(target):
        reserved |= {parameter.name for parameter in parameters[:1]}
    takes = [p.name for p in parameters if p.name not in reserved and p.kind is not p.VAR_KEYWORD]
    for key, value in given.items():
        if key in reserved or (key not in takes and not any_name):
            listed = ", ".join(sorted(takes)) or "no arguments"
            raise ConfigError(f"{group}.{key}={value}: {name} takes {listed}")
    if group == "optimizer":
        _fill_in_rate(name, given, parameters)
        for key, rule in RULES.items():
            if key in given and (fault := rule.fault(given[key])):
                raise ConfigError(f"{group}.{key}={given[key]}: {fault}")
    return {TARGET: name, "name": name.rpartition(".")[2], **given}


def _fill_in_rate(name: str, given: Plain, parameters: Sequence[inspect.Parameter]) -> None:
    rates = [parameter for parameter in parameters if parameter.name == "lr"]
    if not rates or "lr" in given:
        return
    default = rates[0].default
    if not isinstance(default, int | float):
        raise ConfigError(f"optimizer.lr: missing; {name} needs one")
    given["lr"] = float(default)


def _parameters(group: str, name: str, target: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    if not callable(target):
        raise ConfigError(f"{group}.{TARGET}={name}: is no class or function")
    try:
        return tuple(inspect.signature(target).parameters.values())
    except ValueError as error:
        raise ConfigError(f"{group}.{TARGET}={name}: has no signature") from error
