"""Whether a configuration is valid, as far as that can be told without data."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from initstudy.config import by_name
from initstudy.config.errors import ConfigError, unknown_key
from initstudy.config.rules import FLAG, SINGLE, Number, Rule, Whole
from initstudy.config.run import WITHOUT_EFFECT, Plain, Run, identity
from initstudy.config.schema import MAY_BE_ABSENT, UNTIL_DECIDED, Config, Named

# What `training` takes out of a section before it builds the target.
BESIDE_THE_TARGET = {
    "init": ("bias", "rest"),
    "model": (),
    "data": ("subset", "validation"),
    "loss": (),
}
# What stands beside a target, and what it may be.
BESIDE: dict[str, Rule] = {
    "data.subset": Whole(1),
    "data.validation": Number(high=1, above=True, below=True),
}
SECTION = "must be a mapping from keys to values"
# Groups whose choice every run records; any other group's is recorded where it was given.
GROUPS_THAT_ARE_COLUMNS = ("init", "model")


def make_run(
    cfg: DictConfig, overrides: Sequence[str] = (), choices: Mapping[str, str] | None = None
) -> Run:
    """A composed configuration as a run.

    Args:
        cfg: The configuration as Hydra composed it.
        overrides: What the user or the sweep set, as Hydra takes it.
        choices: The choice of each group, such as "xavier_normal" of `init`.

    Raises:
        ConfigError: A key is unknown or missing, a value is invalid, or a target does not take an
            argument.
    """
    config: Plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return as_run(config, overrides, choices)


def as_run(
    plain: Plain, overrides: Sequence[str] = (), choices: Mapping[str, str] | None = None
) -> Run:
    """A configuration of plain values as a run, validated as in `make_run`; it shares the values.

    Raises:
        ConfigError: A key is unknown or missing, a value is invalid, or a target does not take an
            argument.
    """
    config = {key: value for key, value in plain.items() if key != "hydra"}
    if config.get("seeds") == UNTIL_DECIDED:
        raise ConfigError(
            f"seeds={UNTIL_DECIDED}: needs a grid with claims, such as +sweep=std_grid"
        )
    for group in by_name.GROUPS:
        config[group] = _fit_by_name(group, config.get(group), overrides)
    _check_section(Config, config)
    for group in BESIDE_THE_TARGET:
        config[group] = _fit_to_target(group, config[group], overrides)
    for key, rule in BESIDE.items():
        group, _, name = key.partition(".")
        value = config[group].get(name)
        if value is not None and (fault := rule.fault(value)):
            raise ConfigError(f"{key}={value}: {fault}")
    if config["optimizer"].get("nesterov") and config["optimizer"].get("momentum") == 0:
        raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0")
    if config["decay"] == "matrices" and "weight_decay" not in config["optimizer"]:
        name = config["optimizer"]["name"]
        raise ConfigError(f"decay=matrices: {name} is given no optimizer.weight_decay to restrict")
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    columns = (given - {*WITHOUT_EFFECT, "sweep"}) | {*GROUPS_THAT_ARE_COLUMNS}
    named = {k: str(v) for k, v in (choices or {}).items() if k in columns and "/" not in k}
    return Run(config, tuple(overrides), identity(config), named)


@dataclass(frozen=True)
class _Field:
    """One field of a schema.

    Attributes:
        name: The key.
        section: The schema of what lies below the key; None for a single value.
        rule: What the value has to be; None if anything is right.
        optional: Whether the value may be null.
        may_be_absent: Whether the key may be missing.
    """

    name: str
    section: type | Named | None
    rule: Rule | None
    optional: bool
    may_be_absent: bool


@cache
def _fields(schema: type) -> tuple[_Field, ...]:
    hints = get_type_hints(schema, include_extras=True)
    return tuple(_field(field.name, hints[field.name]) for field in fields(schema))


def _field(name: str, hint: Any) -> _Field:
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    sections = [e for e in (kind, *extras) if isinstance(e, Named) or _is_schema(e)]
    rules = [e for e in extras if hasattr(e, "fault")]
    by_type = {bool: FLAG, str: SINGLE, str | None: SINGLE}
    return _Field(
        name,
        sections[0] if sections else None,
        rules[0] if rules else by_type.get(kind),
        NoneType in get_args(kind),
        MAY_BE_ABSENT in extras,
    )


def _is_schema(value: Any) -> bool:
    return isinstance(value, type) and is_dataclass(value)


def _check_section(schema: type, section: Plain, prefix: str = "", owner: str = "") -> None:
    """Checks what lies below a key against its schema.

    Args:
        schema: A dataclass of `config.schema`.
        section: The keys and their values.
        prefix: The dotted key of the section with a dot behind it; empty at the top.
        owner: What has chosen the schema, such as "optimizer=sgd".
    """
    known = {field.name: field for field in _fields(schema)}
    for key in section:
        if key not in known:
            raise unknown_key(f"{prefix}{key}", _keys(schema, prefix), owner)
    for name, field in known.items():
        key = f"{prefix}{name}"
        if name in section:
            _check_value(field, section[name], key)
        elif not field.may_be_absent:
            raise ConfigError(f"{key}: missing; it cannot be deleted")


def fault_of(key: str, value: Any) -> str | None:
    """What the schema says against a value; None if it knows no rule for such a key.

    Args:
        key: The key, dotted.
        value: A value that cannot be converted to the type of the key.
    """
    schema: Any = Config
    field: _Field | None = None
    for name in key.split("."):
        fields_here = {field.name: field for field in _fields(schema)} if _is_schema(schema) else {}
        field = fields_here.get(name)
        schema = field.section if field else None
    if field is None:
        return None
    if field.section is not None:
        return SECTION
    return field.rule.fault(value) if field.rule is not None else None


def _check_value(field: _Field, value: Any, key: str) -> None:
    if value is None and field.optional:
        return
    if field.section is not None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}={value}: {SECTION}")
        if isinstance(field.section, Named) and field.section.targets and by_name.has_target(value):
            return
        _check_section(*_schema_of(field.section, value, key))
    elif field.rule is not None and (fault := field.rule.fault(value)):
        raise ConfigError(f"{key}={value}: {fault}")


def _fit_by_name(group: str, section: Any, overrides: Sequence[str]) -> Any:
    """A section that has a name or a target; see `by_name.fitted`."""
    section = by_name.without_empty_target(section)
    if not by_name.has_target(section):
        return section
    target = section["_target_"]
    accepted_arguments(group, str(target))
    return by_name.fitted(group, section, overrides, _locate(str(target)))


def _schema_of(section: type | Named, value: Any, key: str) -> tuple[type, Plain, str, str]:
    """The arguments of `_check_section` for what lies below a key."""
    if not isinstance(section, Named):
        return section, value, f"{key}.", ""
    name = value.get("name")
    if name not in section.schemas:
        choices = ", ".join(section.schemas)
        raise ConfigError(f"{key}.name={name}: choose one of {choices}")
    return section.schemas[name], value, f"{key}.", f"{key}={name}"


def _keys(schema: type, prefix: str) -> list[str]:
    """The dotted keys at and below a schema."""
    return [f"{prefix}{key}" for key in _walk(schema)]


def _walk(schema: type) -> Iterator[str]:
    for field in _fields(schema):
        yield field.name
        for section in _schemas(field.section):
            yield from (f"{field.name}.{key}" for key in _walk(section))


def _schemas(section: type | Named | None) -> tuple[type, ...]:
    """The schemas that a section may have."""
    if isinstance(section, Named):
        return tuple(section.schemas.values())
    return (section,) if section is not None else ()


def _fit_to_target(group: str, section: Any, overrides: Sequence[str]) -> Plain:
    """Checks the arguments of a target; one of the user's own is given only those that it takes.

    `model._target_=mine.Net` changes the target alone, so that the default model's arguments are
    still there. They are left out, unless the user named them. An initializer keeps those that it
    takes, such as `std`.
    """
    target = section.get("_target_") if isinstance(section, Mapping) else None
    if not isinstance(target, str):
        raise ConfigError(f"{group}._target_: missing; name the class or function to build")
    ours = target.startswith("initstudy.")
    accepted = (_arguments_of_ours if ours else accepted_arguments)(group, target)
    named = {o.lstrip("+").split("=", 1)[0] for o in overrides}
    if group != "init" and not ours and f"{group}._target_" in named:
        # What the file gives its own target may mean something else here: `mine.Net(width=16)` has
        # a width of its own, and not that of the default model.
        section = {key: value for key, value in section.items() if _stays(group, key, named)}
    if accepted is None:
        return section
    if group == "init":
        _check_makes_initializer(target, accepted, partial=bool(section.get("_partial_")))
    taken = {*accepted, *BESIDE_THE_TARGET[group]}
    foreign = [key for key in section if not key.startswith("_") and key not in taken]
    for key in foreign:
        if ours:
            known = [f"{group}.{name}" for name in taken]
            raise unknown_key(f"{group}.{key}", known, target.rpartition(".")[2])
        if f"{group}.{key}" in named:
            takes = ", ".join(sorted(accepted)) or "no arguments"
            raise ConfigError(f"{group}.{key}={section[key]}: {target} takes {takes}")
    return {key: value for key, value in section.items() if key not in foreign}


def _stays(group: str, key: str, named: set[str]) -> bool:
    """Whether a key goes with a target that the user has named instead of the file's."""
    return key.startswith("_") or key in BESIDE_THE_TARGET[group] or f"{group}.{key}" in named


def _check_makes_initializer(target: str, accepted: set[str], *, partial: bool) -> None:
    """Refuses a function that fills a tensor where one is asked for that makes an initializer."""
    if {"shape", "fans"} <= accepted and not partial:
        raise ConfigError(
            f"init._target_={target}: is itself an initializer; add +init._partial_=true"
        )
    if "tensor" in accepted:
        raise ConfigError(
            f"init._target_={target}: fills a tensor in place; an initializer takes "
            "(shape, fans, *, generator, dtype) and returns a new tensor"
        )


@cache
def _arguments_of_ours(group: str, target: str) -> set[str] | None:
    """As `accepted_arguments`, of a class that does not change while the process runs."""
    return accepted_arguments(group, target)


def accepted_arguments(group: str, target: str) -> set[str] | None:
    """The names of a target's arguments; None if it takes any.

    Raises:
        ConfigError: There is no such target.
    """
    try:
        parameters = inspect.signature(_locate(target)).parameters.values()
    except Exception as error:
        # Importing a user's module runs it: anything may be raised.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{group}._target_={target}: cannot be loaded from {Path.cwd()}: {reason}"
        ) from error
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def named_arguments(group: str, target: str) -> set[str]:
    """The names that stand in a target's signature; it may take others as well.

    Raises:
        ConfigError: There is no such target.
    """
    accepted = accepted_arguments(group, target)
    if accepted is not None:
        return accepted
    return set(inspect.signature(_locate(target)).parameters)


def _locate(target: str) -> Any:
    """What a dotted name stands for. Hydra's own `get_object` would log what it cannot find."""
    try:
        return pkgutil.resolve_name(target)
    except AttributeError:
        # A module that cannot be imported looks like an attribute that its package does not have.
        import_module(target.rpartition(".")[0])
        raise
