"""From a grid to packs: checking the runs, and what can train together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from initstudy.config import WITHOUT_EFFECT, ConfigError, Run, flatten, without
from initstudy.probes.layers import find_layers
from initstudy.tasks.data import Dataset
from initstudy.training import factory as build
from initstudy.training.group import Pack

# What may differ between the members of an ensemble. Everything else splits packs.
MEMBER_KEYS = (
    "seed",
    "init",
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.momentum",
)

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


def plan(
    runs: Sequence[Run],
    pack_size: Callable[[list[Run]], int],
    done: Collection[str] = (),
) -> list[Pack]:
    """What trains together: runs that differ in `MEMBER_KEYS` alone, in packs of equal size.

    Packs are those of the whole grid, so that a sweep that goes on trains the same ones; what is
    left of packs that are partly done is put together anew.

    Args:
        runs: The grid.
        pack_size: Runs a pack at most, for runs that can train together.
        done: The ids of runs that do not have to train.
    """
    packs = []
    for group in alike(runs):
        todo = unfinished(group, done)
        if not todo:
            continue
        limit = pack_size(group)
        whole = [part for part in split(group, limit) if unfinished(part, done) == part]
        taken = {run.id for part in whole for run in part}
        packs += [_pack(part) for part in (*whole, *split(unfinished(todo, taken), limit))]
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
    for group in alike(runs):
        config = group[0].config
        data = build.dataset(config)
        model = build.model(config, data)
        size = _size(model, data, config["batch_size"])
        if size.parameters == 0:
            raise ConfigError(f"model._target_={config['model']['_target_']}: has no parameters")
        build.learning_rates(config, model)
        distinct = {json.dumps(run.config["init"], default=str): run for run in group[::-1]}
        drawn: set[str] = set()
        for run in distinct.values():
            build.policy(run.config)
            kind = _kind_of_init(run)
            if kind not in drawn:
                build.draw(run, model, data)
                drawn.add(kind)
        sizes |= dict.fromkeys((run.id for run in group), size)
    return sizes


def unfinished(runs: Sequence[Run], finished: Collection[str]) -> list[Run]:
    """The runs that still have to train."""
    return [run for run in runs if run.id not in finished]


def alike(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The runs that can train together, group by group."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(signature(run), []).append(run)
    yield from groups.values()


def signature(run: Run) -> str:
    """What runs have in common that can train together."""
    shared = without(run.config, (*MEMBER_KEYS, *WITHOUT_EFFECT))
    return json.dumps(flatten(shared), sort_keys=True)


def _kind_of_init(run: Run) -> str:
    """The initialization less its numbers: one draw shows whether it can fill the model."""
    section = flatten(run.config["init"])
    return json.dumps({k: v for k, v in section.items() if not isinstance(v, float)}, default=str)


def _size(model: nn.Module, data: Dataset, batch: int) -> Size:
    layers = find_layers(model, data.normalize(data.train_x[:2]))
    activations = sum(math.prod(layer.shape) for layer in layers)
    return Size(sum(p.numel() for p in model.parameters()), batch * activations)


def suited(size: Size, device: torch.device) -> int:
    """The largest pack that should train well, as far as that can be told without a trial."""
    if device.type != "cpu":
        return GPU_PACK_RUNS
    by_parameters = CPU_PACK_PARAMETERS // size.parameters
    by_activations = CPU_PACK_ACTIVATIONS // max(1, size.activations)
    return max(1, min(CPU_PACK_RUNS, by_parameters, by_activations))


def split(runs: Sequence[Run], limit: int) -> list[list[Run]]:
    """Parts of equal size, up to one, and at most of this; runs of one seed are neighbours.

    Those see the same data, and share it where a part has as many runs of each of its seeds.
    """
    if not runs:
        return []
    count = -(-len(runs) // limit)
    size = -(-len(runs) // count)
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.config["seed"], []).append(run)
    each = {len(same) for same in by_seed.values()}
    if len(each) == 1 and size % len(by_seed) == 0:
        ordered = [run for across in zip(*by_seed.values(), strict=True) for run in across]
    else:
        ordered = [run for same in by_seed.values() for run in same]
    parts = [ordered[i : i + size] for i in range(0, len(runs), size)]
    return [sorted(part, key=lambda run: run.config["seed"]) for part in parts]


def _pack(runs: Sequence[Run]) -> Pack:
    ids = " ".join(run.id for run in runs)
    return Pack(hashlib.sha256(ids.encode()).hexdigest()[:12], tuple(runs))
