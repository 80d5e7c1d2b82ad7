"""Sections with a `_target_` as objects; whatever fails is told in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from initstudy.config import ConfigError


def instantiated(group: str, section: Mapping[str, Any]) -> Any:
    """What the target of a section makes of its other keys.

    Args:
        group: The key of the section, such as "model".
        section: The section.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        return instantiate(dict(section), _convert_="all")
    except InstantiationException as error:
        raise ConfigError(keyed(group, section, error.__cause__ or error)) from error


def located(group: str, section: Mapping[str, Any]) -> Any:
    """The target of a section itself.

    Raises:
        ConfigError: There is none.
    """
    target = target_of(section)
    try:
        return get_object(target)
    except Exception as error:
        # Importing a user's module runs it: anything may be raised.
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise ConfigError(f"{group}._target_={target}: cannot be loaded: {reason}") from error


def target_of(section: Mapping[str, Any]) -> str:
    """The `_target_` of a section."""
    return str(section.get("_target_"))


def keyed(group: str, section: Mapping[str, Any], error: BaseException) -> str:
    """An error in one line that names the section's target, unless it already names a key."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if reason.startswith((f"{group}.", "init.", "model.", "data.")):
        return reason
    target = target_of(section)
    own = not target.startswith("initstudy.")
    if reason.startswith(f"{group}: ") and own:
        reason = reason.removeprefix(f"{group}: ")
    elif reason.startswith((f"{group}: ", f"{group}=")):
        return reason
    return f"{group}._target_={target}: {reason}"
