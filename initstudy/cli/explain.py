"""`python -m initstudy --explain …`: what the same command would do, without doing it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from initstudy.cli.arguments import options_first, parse
from initstudy.cli.run import USERS_FAULTS, better_named, is_users_fault
from initstudy.config import UNTIL_DECIDED, flatten
from initstudy.config.command_line import Grid, compose_grid
from initstudy.config.messages import refuse
from initstudy.scheduling.progress import duration

if TYPE_CHECKING:
    from initstudy.scheduling.autotune import Autotuner
    from initstudy.scheduling.work import Work
    from initstudy.training.group import RunGroup

USAGE = """\
What a command would do: which runs train together, in which packs, with which engine and why with
no faster one, how long that takes, and which files it writes. Nothing is trained, timed or written.

  python -m initstudy --explain +sweep=std_grid model=mlp,cnn,lstm
  python -m initstudy --explain -m init=xavier_normal,kaiming_normal "seed=range(3)"

Takes whatever `python -m initstudy` takes; see its --help.
"""
LABEL, RATES_LISTED = 14, 4
HYDRAS_LOG = ("initstudy.log", "Hydra's log")
REPORT = {
    "index.html": "the page",
    "README.md": "the same for a code host",
    "claims.json": "what the claims came to",
    "charts/*.png": "the charts",
    "charts/*.svg": "the charts, to be scaled",
}


def main(arguments: Sequence[str]) -> int:
    """Prints what a command would do.

    Args:
        arguments: The command's arguments, without `--explain`.

    Returns:
        The exit code: 2 for what the command itself would refuse.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return 0
    words = options_first(arguments)
    try:
        given = parse(words)
        grid = compose_grid(
            given.overrides,
            multirun=given.multirun,
            config_name=given.config_name or "config",
            config_dir=given.config_dir,
        )
        lines = list(explain(grid))
    except (*USERS_FAULTS, ValueError) as error:
        if not is_users_fault(error):
            raise
        return refuse(better_named(error, words))
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def explain(grid: Grid) -> Iterator[str]:
    """What the study of a grid would do, line by line.

    Raises:
        ConfigError: What the study itself would refuse.
        StoreError: The study's directory cannot be read.
    """
    # What trains takes a second to import; a wrong word is refused before that.
    from initstudy.scheduling.study import dry_run

    work = dry_run(grid.runs, grid.directory)
    finished = len(grid.runs) - len(work.todo)
    yield f"{grid.directory}: {finished} of {len(grid.runs)} runs complete"
    if grid.config.get("seeds") == UNTIL_DECIDED:
        yield f"seeds={UNTIL_DECIDED}: these are all runs that the claims may ask for"
    differ = _differences(work.groups)
    for number, group in enumerate(work.groups, 1):
        yield ""
        yield f"group {number} of {len(work.groups)}: {_title(group, differ)}"
        yield from _rows(_described(group, work, grid.directory))
    if work.todo:
        yield ""
        yield from _in_all(work)
    yield ""
    yield f"files in {grid.directory}"
    for count, pattern, meaning in _files(grid, work):
        yield f"  {count:>5}  {pattern:<42}  {meaning}"


def _differences(groups: Sequence[RunGroup]) -> list[str]:
    """The keys in which groups differ, so that their runs cannot train together."""
    flat = [flatten(group.shared) for group in groups]
    keys = {key: None for values in flat for key in values}
    return [key for key in keys if len({repr(values.get(key)) for values in flat}) > 1]


def _title(group: RunGroup, differ: Sequence[str]) -> str:
    model = group.config.model["_target_"].removeprefix("initstudy.models.")
    values = flatten(group.shared)
    own = [f"{key}={values[key]}" for key in differ if key in values and key != "model._target_"]
    data = group.config.data["_target_"].removeprefix("initstudy.tasks.")
    return ", ".join([f"{model} on {data}", *own])


def _described(group: RunGroup, work: Work, directory: Path) -> Iterator[tuple[str, str]]:
    """What would become of a group, as labels and texts."""
    from initstudy.training import checkpoints

    packs = [pack for pack in work.all_packs if pack.group is group]
    held = [pack for pack in packs if pack in work.under_way]
    runs, steps = sum(len(pack.runs) for pack in packs), group.schedule.steps
    yield "runs", f"{_count(runs, 'run')} of {len(group.runs)} to train, {steps:,} steps each"
    size = group.size
    yield "size", f"{size.parameters:,} parameters, {size.activations:,} activations per batch"
    sizes = Counter(len(pack.runs) for pack in packs)
    listed = " and ".join(f"{count} of {_count(size, 'run')}" for size, count in sizes.items())
    yield "packs", f"{_count(len(packs), 'pack')}: {listed}"
    if held:
        yield "", f"{len(held)} of them with other processes since an earlier command"
    begun = sum(checkpoints.exists(directory, pack.id) for pack in packs if pack not in held)
    if begun:
        yield "", f"{begun} of them from a checkpoint on, which takes less than expected below"
    yield "engine", group.engine.name
    for faster, reason in group.engine.reasons.items():
        yield f"not {faster}", reason
    if not group.engine.reasons:
        yield "", "no engine is faster"
    if said := group.updates.described(group.config.optimizer):
        yield "optimizer", said
    yield from _speed(group, runs - sum(len(pack.runs) for pack in held), work.tuner)


def _speed(group: RunGroup, runs: int, tuner: Autotuner) -> Iterator[tuple[str, str]]:
    """What is known of a group's speed, and how long so many of its runs take."""
    if group.key not in tuner.plans:
        return
    measured = tuner.measured(group)
    if not measured:
        reason = "this command may time it first" if tuner.worth_trying(group) else "not timed"
        yield "measured", f"nothing yet; {reason}"
    best = sorted(measured.items(), key=lambda item: -item[1])[:RATES_LISTED]
    for index, (shape, rate) in enumerate(best):
        workers, _, size = shape.partition("x")
        spread = f"packs of {size}, {workers} side by side"
        yield "measured" if index == 0 else "", f"{rate:,.0f} member-steps/s with {spread}"
    seconds, sure = tuner.seconds(group, runs)
    known = "from what was measured" if sure else "a rough estimate from the model's size"
    yield "expected", f"{duration(seconds)}, {known}"


def _in_all(work: Work) -> Iterator[str]:
    """The whole training, in two lines."""
    waiting = {group.key: 0 for group in work.groups}
    for pack in work.packs:
        waiting[pack.group.key] += len(pack.runs)
    seconds = [
        work.tuner.seconds(group, waiting[group.key])[0]
        for group in work.groups
        if waiting[group.key]
    ]
    runs, packs = _count(len(work.todo), "run"), _count(len(work.all_packs), "pack")
    yield f"in all: {runs} in {packs} on {work.backend}"
    yield f"        {duration(sum(seconds))} at the speed of this machine"


def _rows(labelled: Iterable[tuple[str, str]]) -> Iterator[str]:
    for label, text in labelled:
        yield f"  {label:<{LABEL}}  {text}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _files(grid: Grid, work: Work) -> Iterator[tuple[int | str, str, str]]:
    """The files that the study writes: how many, a pattern for their names, what they hold."""
    config = grid.runs[0].config
    packs, runs = len(work.all_packs), len(work.todo)
    log = ("multirun.yaml", "the whole configuration") if grid.multirun else HYDRAS_LOG
    yield 1, *log
    yield 1, ".lock", "keeps other commands out of the directory"
    yield 1, "study.json", "what was asked, planned and timed"
    if packs:
        yield 1, "progress.json", "how far it is"
        yield packs, "store/*.runs.parquet", "one row per run: its configuration and final values"
        yield packs, "store/*.history.parquet", "one row per run and logged step"
        yield packs, "store/*.sha256", "checksums of these two"
        yield packs, "store/*.timing.json", "what a pack took"
        yield runs, "runs/*/.hydra/config.yaml", "a run's configuration"
        yield runs, "runs/*/.hydra/overrides.yaml", "a run's overrides"
        for moment in ("init", "final"):
            if config["save_weights"] in (moment, "both"):
                yield runs, f"runs/*/{moment}.safetensors", "a run's parameters and buffers"
        every = config["checkpoint"]["every"]
        if every is not None:
            yield packs, "checkpoints/*", f"every {every:g} s while a pack trains, then removed"
        if config["tracking"]["mode"] == "offline":
            # The study's own run holds its report.
            own = len(grid.runs) > 1
            yield runs + own, "wandb/offline-run-*/*.wandb", "a W&B run each, to be synced"
    for name, meaning in REPORT.items():
        yield "some" if "*" in name else 1, f"report/{name}", meaning
