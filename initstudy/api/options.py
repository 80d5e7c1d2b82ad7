"""From the keywords of a Python call to the overrides of a command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

from initstudy.api import given
from initstudy.config import UNTIL_DECIDED, ConfigError, Plain

# The groups whose choices may be objects, and those that may be classes or functions.
OBJECTS = ("model", "data", "init")
TARGETED = ("optimizer", "schedule")
PROVIDER = "initstudy.study"


def overrides(
    choices: Mapping[str, Any], seeds: int | str | Sequence[int] | None, options: Mapping[str, Any]
) -> list[str]:
    """The overrides that say what keywords say.

    A list is an axis of the grid; a tuple, or a list inside a list, is one value.

    Args:
        choices: Of `OBJECTS`: a name, an object, or a list of those. None leaves the default.
        seeds: How many seeds, or which, or "until_decided".
        options: Keys of the configuration, nested or dotted, and groups.

    Raises:
        ConfigError: A value cannot be written as an override.

    Example:
        >>> overrides({"init": ["own", "kaiming_normal"]}, 3, {"optimizer": {"lr": [0.1, 0.01]}})
        ['init=own,kaiming_normal', 'optimizer.lr=0.1,0.01', 'seed=0,1,2']
    """
    words = []
    for group, value in choices.items():
        if value is None:
            continue
        listed = value if isinstance(value, list) else [value]
        if not listed:
            raise ConfigError(f"{group}=[]: names no choice")
        words.append(f"{group}={','.join(_choice(group, item) for item in listed)}")
    for key, value in _flat(_with_targets(options)):
        words.append(f"{key}={_axis(key, value)}")
    if seeds == UNTIL_DECIDED:
        words.append(f"seeds={seeds}")
    elif seeds is not None:
        listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        if not listed:
            raise ConfigError(f"seeds={seeds}: must be at least one seed")
        words.append(f"seed={','.join(map(str, listed))}")
    return words


def _choice(group: str, value: Any) -> str:
    """The name of a choice of a group; an object becomes one of a name of its own."""
    if isinstance(value, str):
        return value
    section = given.as_section(group, value)
    name = re.sub(r"[^\w.]+", "_", given.label(value)).strip("_")
    if group == "data":
        name = f"own_{given.fingerprint(value)}"
    registered = _registered(group)
    if registered.get(name, section) != section:
        # Two objects whose difference the label does not show.
        name = f"{name}_{given.fingerprint(value)[:6]}"
    register(group, name, section)
    return name


def register(group: str, name: str, section: Plain) -> None:
    """Makes a section a choice of a group, until `forget`."""
    ConfigStore.instance().store(group=group, name=name, node=section, provider=PROVIDER)


def _registered(group: str) -> dict[str, object]:
    """The objects of a group that became choices, by their names."""
    nodes = ConfigStore.instance().repo.get(group, {})
    return {
        file.removesuffix(".yaml"): OmegaConf.to_container(node.node)
        for file, node in nodes.items()
        if isinstance(node, ConfigNode) and node.provider == PROVIDER
    }


def forget() -> None:
    """Removes the choices that objects became, which no later command of this process has."""
    repo = ConfigStore.instance().repo
    for group in OBJECTS:
        for name in _registered(group):
            del repo[group][f"{name}.yaml"]
        if not repo.get(group, True):
            del repo[group]


def _with_targets(options: Mapping[str, Any]) -> Plain:
    """Classes and functions among optimizers and schedules by their dotted names."""
    words: Plain = {}
    for key, value in options.items():
        section = {"_target_": value} if callable(value) else value
        if key not in TARGETED or not isinstance(section, Mapping) or "_target_" not in section:
            words[key] = value
            continue
        for name, item in section.items():
            if name == "_target_":
                words[f"{key}._target_"] = item if isinstance(item, str) else _dotted(key, item)
            else:
                # A key that the default optimizer or schedule does not have is added.
                words[f"++{key}.{name}"] = item
    return words


def _dotted(key: str, value: Any) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if module is None or "<" in name:
        raise ConfigError(f"{key}={value!r}: must be a class or function of a module, by its name")
    return f"{module}.{name}"


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys as dotted ones; `name` of a group's section is the group's choice."""
    for key, value in options.items():
        if isinstance(value, Mapping) and key not in ("claims", "notes", "paper", "metrics"):
            section = dict(value)
            if not prefix and "name" in section and key != "executor":
                yield key, section.pop("name")
            yield from _flat(section, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _axis(key: str, value: Any) -> str:
    if isinstance(value, list):
        if not value:
            raise ConfigError(f"{key}=[]: names no value")
        return ",".join(_written(key, item) for item in value)
    return _written(key, value)


def _written(key: str, value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, tuple | list):
        return f"[{','.join(_written(key, item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_written(key, v)}" for k, v in value.items()) + "}"
    if (section := given.as_fields(value)) is not None:
        return _written(key, section)
    raise ConfigError(f"{key}={value!r}: a {type(value).__name__} cannot stand there")


def _quoted(text: str) -> str:
    plain = all(c.isalnum() or c in "_-./" for c in text) and text
    return text if plain else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def with_claims(claims: Mapping[str, Any]) -> Plain:
    """Claims as sections of the configuration.

    Args:
        claims: By name, a claim such as `initstudy.claims.Better(…)`, or a section.

    Raises:
        ConfigError: One is no claim.
    """
    sections: Plain = {}
    for name, claim in claims.items():
        section = dict(claim) if isinstance(claim, Mapping) else given.as_fields(claim)
        if section is None or "statement" not in section:
            raise ConfigError(f"claims.{name}: {claim!r} is no claim of initstudy.claims")
        sections[name] = section
    return sections
