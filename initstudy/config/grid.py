"""What makes a grid valid beyond its single runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from initstudy.config.errors import ConfigError, closest
from initstudy.config.run import WITHOUT_EFFECT, Run, flatten
from initstudy.config.validation import GROUPS_THAT_ARE_COLUMNS


def check_sweep(overrides: Sequence[Override]) -> None:
    """Checks the lists of values from which Hydra makes a grid, before it makes the grid.

    Args:
        overrides: What the command line and a file of conf/sweep set.

    Raises:
        ConfigError: A list names a value twice, or its key changes no result, so that two runs of
            the grid would be the same.
    """
    for override in overrides:
        if not override.is_discrete_sweep():
            continue
        key = override.key_or_group
        values = list(override.sweep_string_iterator())
        given = f"{key}={','.join(map(str, values))}"
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise ConfigError(f"{given}: names {twice[0]} twice; give each value once")
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in WITHOUT_EFFECT):
            raise ConfigError(f"{given}: {key} changes no result, so a grid of it makes no sense")


def check_grid(runs: Sequence[Run]) -> None:
    """Checks the keys that name other keys, each of which at least one run has to have.

    Args:
        runs: All jobs of the grid, also those that `exclude` names.

    Raises:
        ConfigError: `by`, `across`, `tune` or a pattern of `exclude` names a key that no run has.
    """
    if not runs:
        return
    config = runs[0].config
    named = {key: config[key] for key in ("by", "across", "tune") if config[key] is not None}
    patterns = {f"exclude: {key}": key for pattern in config["exclude"] for key in pattern}
    missing = {**named, **patterns}
    known: set[str] = set(GROUPS_THAT_ARE_COLUMNS)
    for run in runs:
        missing = {where: key for where, key in missing.items() if key not in known}
        if not missing:
            return
        known |= flatten(run.config).keys()
    for where, key in missing.items():
        if key not in known:
            advice = f" (did you mean '{close}'?)" if (close := closest(key, known)) else ""
            given = where if where in patterns else f"{where}={key}"
            raise ConfigError(f"{given}: is no key of the configuration{advice}")
