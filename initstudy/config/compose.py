"""The jobs of a grid as runs: Hydra composes each set of group choices once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from initstudy.config import ConfigError, Plain, Run, as_run, check_grid, make_run
from initstudy.config.messages import one_line
from initstudy.config.schema import UNTIL_DECIDED, Seeds

MISSING, INTERPOLATION = "???", "${"


def compose_jobs(
    loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]]
) -> list[Run]:
    """The distinct runs of a grid, without those that `exclude` names.

    Args:
        loader: Hydra's loader, which knows conf/ and the user's own folders.
        config: The configuration of the grid as a whole.
        jobs: The overrides of each job.

    Raises:
        ConfigError: A key is unknown or a value is invalid, in a job or in the grid as a whole.
    """
    return distinct(compose_each(loader, config, jobs))


def compose_each(
    loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]]
) -> list[Run]:
    """Every job of a grid as a validated run, one run per job.

    Hydra composes once for each distinct set of group choices. The plain values of a job are then
    set in the result, which is what Hydra does with them too, in a hundredth of the time.

    Args:
        loader: Hydra's loader, which knows conf/ and the user's own folders.
        config: The configuration of the grid as a whole.
        jobs: The overrides of each job.

    Raises:
        ConfigError: A key is unknown or a value is invalid, in a job or in the grid as a whole.
    """
    if config.get("seeds") == UNTIL_DECIDED:
        jobs = with_seeds(jobs, config.max_seeds)
    overrides = Overrides(loader)
    everywhere = set(jobs[0]).intersection(*jobs) if jobs else set()
    composed: dict[tuple[str, ...], Composed] = {}
    runs: list[Run] = []
    for job in jobs:
        choices, values = overrides.sort(job)
        if choices not in composed:
            shared = [value for value in values if value.input_line in everywhere]
            composed[choices] = Composed(loader, config, choices, shared)
        runs.append(composed[choices].run(job, values))
    check_grid(runs)
    return runs


def distinct(runs: Sequence[Run]) -> list[Run]:
    """The runs without those that `exclude` names, and without repetitions."""
    kept: dict[str, Run] = {}
    for run in runs:
        if not run.matches_any(run.config["exclude"]):
            kept.setdefault(run.id, run)
    return list(kept.values())


def with_seeds(jobs: Sequence[Sequence[str]], most: int) -> list[list[str]]:
    """The jobs of a grid with so many seeds each, whatever seeds they were given.

    Example:
        >>> with_seeds([["a=1", "seed=7"], ["a=1", "seed=8"]], 2)
        [['a=1', 'seed=0'], ['a=1', 'seed=1']]
    """
    points = [
        tuple(word for word in job if word.partition("=")[0] not in ("seed", "seeds"))
        for job in jobs
    ]
    return [[*point, f"seed={seed}"] for point in dict.fromkeys(points) for seed in range(most)]


class Overrides:
    """The overrides of all jobs, each parsed once.

    Args:
        loader: Hydra's loader, which knows which names are groups.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.parser = OverridesParser.create(config_loader=loader)
        self.parsed: dict[str, Override] = {}
        self.choices: dict[str, bool] = {}
        self.groups: dict[str, bool] = {}

    def sort(self, job: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
        """What Hydra has to compose for a job, and the values to set in that."""
        for text in job:
            if text not in self.parsed:
                self.parsed[text] = self.parser.parse_override(text)
                self.choices[text] = self._is_choice(self.parsed[text])
        choices = tuple(text for text in job if self.choices[text])
        return choices, [self.parsed[text] for text in job if not self.choices[text]]

    def _is_choice(self, override: Override) -> bool:
        name = override.key_or_group
        if name not in self.groups:
            self.groups[name] = bool(self.loader.get_group_options(name))
        return self.groups[name] or _changes_keys(override)


class Composed:
    """One set of group choices, and the runs that differ in values alone.

    Args:
        loader: Hydra's loader, which composes the choices.
        config: The configuration of the grid as a whole.
        choices: The overrides that Hydra has to compose.
        shared: The overrides that all jobs of the grid have.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        config: DictConfig,
        choices: Sequence[str],
        shared: Sequence[Override],
    ) -> None:
        self.cfg = loader.load_sweep_config(config, list(choices))
        with open_dict(self.cfg):
            self.choices = dict(self.cfg.pop("hydra").runtime.choices)
            if self.cfg.seeds == UNTIL_DECIDED:
                # A file said so; each run has its own seed.
                self.cfg.seeds = OmegaConf.structured(Seeds)
        self.shared = {override.key_or_group for override in shared}
        self.scratch = copy.deepcopy(self.cfg)
        for override in shared:
            _set(self.scratch, override)
        self.plain, self.interpolated = _as_template(self.scratch)
        # What OmegaConf makes of a value, by the text of its override.
        self.converted: dict[str, Any] = {}

    def run(self, job: Sequence[str], values: Sequence[Override]) -> Run:
        """The run of one job.

        Args:
            job: All overrides of the job, as the user or the grid gave them.
            values: Those of them that set a value, rather than choose one of a group.

        Raises:
            ConfigError: A value is invalid.
        """
        own = [override for override in values if override.key_or_group not in self.shared]
        if self.plain is None or not self._stand_alone(values, own):
            cfg = copy.deepcopy(self.cfg)
            for override in values:
                _set(cfg, override)
            return make_run(cfg, job, self.choices)
        config = self.plain
        for override in own:
            path = override.key_or_group.split(".")
            config = _replaced(config, path, self._convert(override))
        return as_run(config, job, self.choices)

    def _stand_alone(self, values: Sequence[Override], own: Sequence[Override]) -> bool:
        """Whether nothing else in the configuration depends on what a job's own values replace."""
        assert self.plain is not None
        keys = [override.key_or_group for override in values]
        nested = any(a.startswith(f"{b}.") for a in keys for b in keys)
        if nested or len(set(keys)) < len(keys):
            return False
        paths = [override.key_or_group.split(".") for override in own]
        return all(
            _is_scalar(override.value())
            and _has(self.plain, path)
            and not any(part in self.interpolated for part in path)
            for path, override in zip(paths, own, strict=True)
        )

    def _convert(self, override: Override) -> Any:
        text = override.input_line
        assert text is not None
        if text not in self.converted:
            _set(self.scratch, override)
            self.converted[text] = OmegaConf.select(self.scratch, override.key_or_group)
        return self.converted[text]


def _as_template(cfg: DictConfig) -> tuple[Plain | None, str]:
    """The configuration as plain values, and the text of all its interpolations.

    The first is None if a value is missing, or cannot be resolved before those of a job are set.
    """
    raw = [v for v in _leaves(OmegaConf.to_container(cfg, resolve=False)) if isinstance(v, str)]
    try:
        plain: Plain = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException:
        return None, ""
    if MISSING in raw:
        return None, ""
    return plain, " ".join(text for text in raw if INTERPOLATION in text)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _replaced(config: Plain, path: Sequence[str], value: Any) -> Plain:
    """The configuration with one value replaced; the other values are shared, not copied."""
    first, rest = path[0], path[1:]
    return {**config, first: _replaced(config[first], rest, value) if rest else value}


def _has(config: Any, path: Sequence[str]) -> bool:
    """Whether the configuration has a single value at a path, rather than a section."""
    for part in path:
        if not isinstance(config, dict) or part not in config:
            return False
        config = config[part]
    return not isinstance(config, dict | list)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return INTERPOLATION not in value and value != MISSING
    return value is None or isinstance(value, bool | int | float)


def _changes_keys(override: Override) -> bool:
    """Whether an override adds or removes keys, rather than setting the value of one."""
    return bool(
        override.is_add() or override.is_force_add() or override.is_delete() or override.package
    )


def _set(cfg: DictConfig, override: Override) -> None:
    key, value = override.key_or_group, override.value()
    try:
        if OmegaConf.select(cfg, key, throw_on_missing=False) is None:
            # Selecting a key that is there but null gives None as well; only a struct tells.
            OmegaConf.set_struct(cfg, True)
        OmegaConf.update(cfg, key, value, merge=True)
    except OmegaConfBaseException as error:
        line = one_line(error)
        raise ConfigError(line if key in line else f"{key}={value}: {line}") from error
