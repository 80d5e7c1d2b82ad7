"""From a grid to packs: composing the jobs, checking them, and what can train together."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from initstudy.config import WITHOUT_EFFECT, ConfigError, Run, flatten, make_run
from initstudy.data import Dataset
from initstudy.ensemble import find_layers
from initstudy.sweep import build

# What may differ between the members of an ensemble. Everything else splits packs.
MEMBER_KEYS = (
    "seed", "init", "optimizer.lr", "optimizer.weight_decay", "optimizer.momentum",
)  # fmt: skip

# Floats of stacked parameters, and of stacked activations of one batch, beyond which a pack falls
# out of a CPU's cache and costs more than it saves.
CPU_PACK_PARAMETERS = 2**22
CPU_PACK_ACTIVATIONS = 2**21
CPU_PACK_RUNS = 64
GPU_PACK_RUNS = 1024


@dataclass(frozen=True)
class Size:
    """Floats that one run of a pack keeps busy: parameters, and activations of a batch."""

    parameters: int
    activations: int


@dataclass(frozen=True)
class Pack:
    """Runs that train together, and an id for their file in the store."""

    id: str
    runs: tuple[Run, ...]


def compose_jobs(
    loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]]
) -> list[Run]:
    """Every job of a sweep as a validated run, but for those that `exclude` names.

    Hydra composes once for each distinct set of group choices; the plain values of a job are then
    set on a copy, which is what Hydra does with them too, at a hundredth of the time.

    Raises:
        ConfigError: An unknown key or an invalid value.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: dict[str, Override] = {}
    is_group: dict[str, bool] = {}
    composed: dict[tuple[str, ...], DictConfig] = {}
    chosen: dict[tuple[str, ...], dict[str, str]] = {}
    runs: dict[str, Run] = {}
    for job in jobs:
        values: list[str] = []
        choices: list[str] = []
        for text in job:
            if text not in parsed:
                parsed[text] = parser.parse_override(text)
            name = parsed[text].key_or_group
            if name not in is_group:
                is_group[name] = bool(loader.get_group_options(name))
            is_choice = is_group[name] or _changes_keys(parsed[text])
            (choices if is_choice else values).append(text)
        key = tuple(choices)
        if key not in composed:
            cfg = loader.load_sweep_config(config, choices)
            with open_dict(cfg):
                chosen[key] = dict(cfg.pop("hydra").runtime.choices)
            composed[key] = cfg
        cfg = copy.deepcopy(composed[key])
        for text in values:
            _set(cfg, parsed[text])
        run = make_run(cfg, job, chosen[key])
        if not any(run.matches(pattern) for pattern in run.config["exclude"]):
            runs.setdefault(run.id, run)
    return list(runs.values())


def plan(
    runs: Sequence[Run],
    pack_size: int | None,
    sizes: dict[str, Size],
    device: torch.device,
    done: Collection[str] = (),
    workers: int = 1,
) -> list[Pack]:
    """What trains together: runs that differ in `MEMBER_KEYS` alone, in packs of equal size.

    Packs are those of the whole grid, so that a sweep that goes on trains the same ones; what is
    left of packs that are partly done is put together anew.

    Args:
        runs: The grid.
        pack_size: Runs a pack at most; None for what suits the device.
        sizes: Of each run that is to train, by run id.
        device: Where they will train.
        done: The ids of runs that do not have to train.
        workers: How many packs train at the same time; where it is left to the planner, no pack is
            so large that one of them has nothing to do.
    """
    packs = []
    share = -(-len(runs) // workers)
    for group in _alike(runs):
        todo = unfinished(group, done)
        if not todo:
            continue
        limit = pack_size or min(share, _suited(sizes[todo[0].id], device))
        whole = [part for part in _split(group, limit) if unfinished(part, done) == part]
        taken = {run.id for part in whole for run in part}
        packs += [_pack(part) for part in (*whole, *_split(unfinished(todo, taken), limit))]
    return packs


def together(runs: Sequence[Run], ids: Sequence[Sequence[str]]) -> list[Pack]:
    """Packs of runs by their ids, as they were in an earlier command."""
    by_id = {run.id: run for run in runs}
    return [_pack([by_id[run] for run in pack]) for pack in ids]


def halves(pack: Pack) -> list[Pack]:
    """A pack of several runs as two."""
    middle = len(pack.runs) // 2
    return [_pack(pack.runs[:middle]), _pack(pack.runs[middle:])]


def ids_when_halved(pack: Pack) -> list[str]:
    """The ids of a pack and of every part that halving can make of it."""
    parts = halves(pack) if len(pack.runs) > 1 else []
    return [pack.id, *(name for part in parts for name in ids_when_halved(part))]


def check(runs: Sequence[Run]) -> dict[str, Size]:
    """Builds everything that training will need, once for each thing that differs.

    Returns:
        The size of each run, by run id.

    Raises:
        ConfigError: The first thing that cannot be built, in one line.
    """
    sizes: dict[str, Size] = {}
    for group in _alike(runs):
        config = group[0].config
        data = build.dataset(config)
        model = build.model(config, data)
        size = _size(model, data, config["batch_size"])
        if size.parameters == 0:
            raise ConfigError(f"model._target_={config['model']['_target_']}: has no parameters")
        build.learning_rates(config, model)
        drawn: set[str] = set()
        for run in group:
            sizes[run.id] = size
            build.policy(run.config)
            kind = _kind_of_init(run)
            if kind not in drawn:
                build.draw(run, model, data)
                drawn.add(kind)
    return sizes


def unfinished(runs: Sequence[Run], finished: Collection[str]) -> list[Run]:
    """The runs that still have to train."""
    return [run for run in runs if run.id not in finished]


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
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}={value}: {reason}; see python -m initstudy --help") from error


def _alike(runs: Sequence[Run]) -> Iterator[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_signature(run), []).append(run)
    yield from groups.values()


def _signature(run: Run) -> str:
    ignored = (*MEMBER_KEYS, *WITHOUT_EFFECT)
    shared: dict[str, Any] = {
        key: value
        for key, value in flatten(run.config).items()
        if not any(key == name or key.startswith(f"{name}.") for name in ignored)
    }
    return json.dumps(shared, sort_keys=True)


def _kind_of_init(run: Run) -> str:
    """The initialization less its numbers: one draw shows whether it can fill the model."""
    section = flatten(run.config["init"])
    return json.dumps({k: v for k, v in section.items() if not isinstance(v, float)}, default=str)


def _size(model: nn.Module, data: Dataset, batch: int) -> Size:
    layers = find_layers(model, data.normalize(data.train_x[:2]))
    activations = sum(math.prod(layer.shape) for layer in layers)
    return Size(sum(p.numel() for p in model.parameters()), batch * activations)


def _suited(size: Size, device: torch.device) -> int:
    if device.type != "cpu":
        return GPU_PACK_RUNS
    by_parameters = CPU_PACK_PARAMETERS // size.parameters
    by_activations = CPU_PACK_ACTIVATIONS // max(1, size.activations)
    return max(1, min(CPU_PACK_RUNS, by_parameters, by_activations))


def _split(runs: list[Run], limit: int) -> list[list[Run]]:
    """Parts of equal size, up to one, and at most of this."""
    if not runs:
        return []
    count = -(-len(runs) // limit)
    size = -(-len(runs) // count)
    return [runs[i : i + size] for i in range(0, len(runs), size)]


def _pack(runs: Sequence[Run]) -> Pack:
    ids = " ".join(run.id for run in runs)
    return Pack(hashlib.sha256(ids.encode()).hexdigest()[:12], tuple(runs))
