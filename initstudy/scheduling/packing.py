"""From groups to packs: which of the runs that can train together do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch

from initstudy.config import Run
from initstudy.training.config import order_seeds
from initstudy.training.group import Pack, RunGroup, Size

# Numbers of stacked parameters, and of stacked activations for one batch, beyond which a pack no
# longer fits a CPU's cache and costs more than it saves.
CPU_PACK_PARAMETERS = 2**22
CPU_PACK_ACTIVATIONS = 2**21
CPU_PACK_RUNS = 64
GPU_PACK_RUNS = 1024


def pack_runs(
    groups: Sequence[RunGroup],
    pack_size: Callable[[RunGroup], int],
    done: Collection[str] = (),
) -> list[Pack]:
    """Puts the runs of each group into packs of equal size.

    Packs are computed from the whole grid, so that a study that goes on trains the same ones; runs
    that are left over from partly finished packs are packed anew.

    Args:
        groups: The groups of the whole grid.
        pack_size: The most runs per pack, for each group.
        done: The ids of runs that do not have to train.
    """
    packs = []
    for group in groups:
        todo = unfinished(group.runs, done)
        if not todo:
            continue
        limit = pack_size(group)
        complete = [part for part in split(group.runs, limit) if unfinished(part, done) == part]
        taken = {run.id for part in complete for run in part}
        parts = [*complete, *split(unfinished(todo, taken), limit)]
        packs += [Pack(group, tuple(part)) for part in parts]
    return packs


def packs_of(groups: Sequence[RunGroup], ids: Sequence[Sequence[str]]) -> list[Pack]:
    """The packs of runs that an earlier command has put together.

    Args:
        groups: The groups that hold the runs.
        ids: For each pack, the ids of its runs in their order.
    """
    known = {run.id: (group, run) for group in groups for run in group.runs}
    return [Pack(known[pack[0]][0], tuple(known[run][1] for run in pack)) for pack in ids]


def halves(pack: Pack) -> list[Pack]:
    """Two packs with the runs of one that has several."""
    middle = len(pack.runs) // 2
    return [Pack(pack.group, pack.runs[:middle]), Pack(pack.group, pack.runs[middle:])]


def ids_when_halved(pack: Pack) -> list[str]:
    """The ids of a pack and of every part that halving can make of it."""
    parts = halves(pack) if len(pack.runs) > 1 else []
    return [pack.id, *(name for part in parts for name in ids_when_halved(part))]


def unfinished(runs: Sequence[Run], finished: Collection[str]) -> list[Run]:
    """The runs that still have to train."""
    return [run for run in runs if run.id not in finished]


def suited(size: Size, device: torch.device) -> int:
    """The largest pack that should train well, as far as that can be told without a trial."""
    if device.type != "cpu":
        return GPU_PACK_RUNS
    by_parameters = CPU_PACK_PARAMETERS // size.parameters
    by_activations = CPU_PACK_ACTIVATIONS // max(1, size.activations)
    return max(1, min(CPU_PACK_RUNS, by_parameters, by_activations))


def split(runs: Sequence[Run], limit: int) -> list[list[Run]]:
    """Parts of at most `limit` runs, all of one size but for the last, which may be smaller.

    In a part, runs of the same seed are neighbours: they see the same data, and share each batch if
    the part holds the same number of runs for each of its seeds.
    """
    if not runs:
        return []
    count = -(-len(runs) // limit)
    size = -(-len(runs) // count)
    by_seed: dict[int, list[Run]] = {}
    for run, seed in zip(runs, order_seeds(runs), strict=True):
        by_seed.setdefault(seed, []).append(run)
    runs_per_seed = {len(same) for same in by_seed.values()}
    if len(runs_per_seed) == 1 and size % len(by_seed) == 0:
        ordered = [run for across in zip(*by_seed.values(), strict=True) for run in across]
    else:
        ordered = [run for same in by_seed.values() for run in same]
    parts = [ordered[i : i + size] for i in range(0, len(runs), size)]
    return [sorted(part, key=lambda run: run.config["seed"]) for part in parts]
