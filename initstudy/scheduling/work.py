"""What is left of a study: its runs as groups, and the packs that are still to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from initstudy import store
from initstudy.columns import Schema
from initstudy.config import Run
from initstudy.scheduling.autotune import Autotuner
from initstudy.scheduling.backends.choose import UnderWay
from initstudy.scheduling.backends.contract import Backend
from initstudy.scheduling.packing import ids_when_halved, pack_runs, packs_of, unfinished
from initstudy.training import checkpoints
from initstudy.training.group import Pack, RunGroup, check_draws, prepare
from initstudy.training.tasks import check_criterion, joined


@dataclass(frozen=True)
class Work:
    """What is left of a study.

    Attributes:
        backend: Where it is trained; it knows how many packs are to train side by side.
        todo: The runs that are not finished.
        groups: The groups of those runs.
        earlier: What an earlier command has submitted.
        under_way: The packs of that.
        packs: The packs that are still to be handed over, those with a checkpoint first.
        tuner: What has chosen their sizes, and how many of them train side by side.
        schema: The columns of all runs, and which of them is the objective.
    """

    backend: Backend
    todo: list[Run]
    groups: list[RunGroup]
    earlier: UnderWay
    under_way: list[Pack]
    packs: list[Pack]
    tuner: Autotuner
    schema: Schema

    @property
    def all_packs(self) -> list[Pack]:
        """All packs whose results are awaited, in the order in which they are handed over."""
        return [*self.under_way, *self.packs]


def left_to_do(
    runs: Sequence[Run],
    directory: Path,
    backend: Backend,
    earlier: UnderWay,
    *,
    dry: bool = False,
) -> Work:
    """Prepares the groups of a grid, and puts the runs that are missing into packs.

    Args:
        runs: The grid.
        directory: The study's directory, which may not exist yet.
        backend: Where packs train.
        earlier: What an earlier command has submitted.
        dry: Whether to leave everything as it is: nothing is timed, and nothing is removed.

    Raises:
        ConfigError: Something cannot be built, in one line.
        StoreError: The directory cannot be read.
    """
    shared = runs[0].config
    finished = store.finished(directory)
    held = {run.id: run for task in earlier.tasks for run in task.runs}
    known = {run.id for run in runs}
    grid = [*runs, *(run for run in held.values() if run.id not in known)]
    groups = prepare(grid, backend.device, finished - held.keys())
    described = store.read_study(directory)
    before = Schema.described(described) if finished and described else None
    schema = joined([group.schema for group in groups], before, shared["objective"])
    check_criterion(schema, shared["criterion"])
    for group in groups:
        check_draws(group, finished | held.keys())
    under_way = packs_of(groups, [[run.id for run in task.runs] for task in earlier.tasks])
    todo = unfinished(runs, finished)
    missing = [run.id for run in unfinished(todo, held)]
    # A job that has a pack may be writing its checkpoint now.
    taken = {name for pack in under_way for name in ids_when_halved(pack)}
    like = checkpoints.fingerprint(shared["save_weights"], backend.device)
    resumed = checkpoints.find(directory, missing, finished, like, taken, removing=not dry)
    done = finished | held.keys() | {run for pack in resumed for run in pack}
    recorded = described.get("planner", {})
    tuner = Autotuner(
        shared["planner"],
        backend.device,
        backend.trials,
        backend.workers,
        recorded,
        trying=not dry,
    )
    tuner.plan(group for group in groups if unfinished(group.runs, done))
    packs = [*packs_of(groups, resumed), *pack_runs(groups, tuner.pack_size, done)]
    if backend.trials is not None:
        backend.workers = tuner.workers
    return Work(backend, todo, groups, earlier, under_way, packs, tuner, schema)
