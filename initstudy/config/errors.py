"""What a user got wrong, and the key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class ConfigError(ValueError):
    """What a user got wrong, in one line: the key, the value, what would be right."""


def unknown_key(key: str, known: Collection[str], owner: str = "") -> ConfigError:
    """The error for a key that nothing reads.

    Args:
        key: The key, dotted.
        known: The keys that there are, dotted.
        owner: What does not have the key, such as "optimizer=sgd".
    """
    does_not = f": {owner} does not have it" if owner else ""
    section = key.rpartition(".")[0]
    names = sorted({k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == section})
    siblings = [name for name in names if not name.startswith("_")]
    if close := closest(key, known):
        advice = f" (did you mean '{close}'?)"
    elif section and siblings:
        advice = f"; {section} has {', '.join(siblings)}"
    else:
        advice = ""
    return ConfigError(f"unknown key '{key}'{does_not}{advice}; see --help")


def closest(key: str, known: Collection[str]) -> str | None:
    """The known key that a user most probably meant: one beside it, or of that name elsewhere."""
    section, _, name = key.rpartition(".")
    beside = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    elsewhere = {k.rpartition(".")[2]: k for k in known}
    for names, likeness in ((beside, 0.65), (elsewhere, 0.8)):
        for other, whole in names.items():
            if sorted(other) == sorted(name):
                return whole
        if close := difflib.get_close_matches(name, names, n=1, cutoff=likeness):
            return names[close[0]]
    return None
