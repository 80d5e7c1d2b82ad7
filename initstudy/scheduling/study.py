"""What the command does with a composed grid: groups, packs, training, and the report."""

from __future__ import annotations

import datetime
import gc
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from initstudy import __version__, store, tracking
from initstudy.config import ConfigError, Plain, Run
from initstudy.runtime import signals
from initstudy.runtime.clock import seconds_running
from initstudy.scheduling.autotune import Autotuner
from initstudy.scheduling.backends import choose as backends
from initstudy.scheduling.backends.choose import Place
from initstudy.scheduling.backends.forks import Pool
from initstudy.scheduling.execute import resume_fingerprint
from initstudy.scheduling.packing import ids_when_halved, pack_runs, packs_of, unfinished
from initstudy.scheduling.progress import Progress
from initstudy.store import locks
from initstudy.training import checkpoints
from initstudy.training.group import Pack, RunGroup, check_draws, prepare

RUNS_FAILED = 3


@dataclass(frozen=True)
class Work:
    """What is left of a study.

    Attributes:
        todo: The runs that are not finished.
        groups: The groups of those runs.
        under_way: The packs that an earlier command has handed over to a cluster.
        packs: The packs that are still to be handed over, those with a checkpoint first.
        tuner: What has chosen their sizes, and how many of them train side by side.
    """

    todo: list[Run]
    groups: list[RunGroup]
    under_way: list[Pack]
    packs: list[Pack]
    tuner: Autotuner

    @property
    def all_packs(self) -> list[Pack]:
        """All packs that are waited for, in the order in which they are trained."""
        return [*self.under_way, *self.packs]


def study(
    runs: Sequence[Run],
    config: DictConfig,
    directory: Path,
    *,
    command: str,
    report: bool = True,
) -> None:
    """Trains the runs that are not finished in `directory` and writes the report.

    Args:
        runs: The grid.
        config: The composed configuration of the study as a whole: its claims, the studied key.
        directory: The study's directory.
        command: The command that was given, as a line for a shell; it does this again.
        report: Whether to draw the report; a launcher that hands over one run at a time would do so
            for each of them.

    Raises:
        ConfigError: Something is wrong; nothing has trained.
        StoreError: The directory cannot be written, or another study is writing there.
        SystemExit: With code 3, runs failed; the others are trained and reported.
    """
    console = Console()
    if directory.is_relative_to(Path.cwd()):
        directory = directory.relative_to(Path.cwd())
    if not runs:
        raise ConfigError("the sweep is empty: it has no run")
    signals.advise(f"to continue: {_to_continue(config, directory, command)}")
    place = backends.choose(runs[0].config)
    settings = _tracking(runs[0].config["tracking"])
    _check_claims(runs[0].config["claims"])
    store.ensure_writable(directory)
    with locks.lock(directory), Pool() as pool:
        for line in store.set_aside_damaged(directory):
            _say(console, line)
        work = _left_to_do(runs, directory, place, pool)
        if place.forks:
            place = replace(place, workers=work.tuner.workers)
        _write_study(config, directory, command, place, work, len(runs))
        _say(console, _opening(runs, work, directory, place))
        # W&B finishes while the report is drawn.
        with tracking.Tracker(settings, directory, group=directory.name) as tracker:
            failed = _train(console, work, directory, place, tracker, pool)
            if not report:
                _say(console, f"its report: python -m initstudy.report {directory}")
            elif store.finished(directory):
                _report(console, directory, tracker if len(runs) > 1 else None)
    if failed:
        _say_failed(failed)


def _left_to_do(runs: Sequence[Run], directory: Path, place: Place, pool: Pool) -> Work:
    """From the grid to groups, and from groups to packs."""
    config = runs[0].config
    tasks = backends.under_way(place, directory)
    held = {run.id: run for task in tasks for run in task.runs}
    finished = store.finished(directory)
    known = {run.id for run in runs}
    grid = [*runs, *(run for run in held.values() if run.id not in known)]
    groups = prepare(grid, place.device, finished - held.keys())
    under_way = packs_of(groups, [[run.id for run in task.runs] for task in tasks])
    todo = unfinished(runs, finished)
    missing = [run.id for run in unfinished(todo, held)]
    for group in groups:
        check_draws(group, finished | held.keys())
    # A job that has a pack may be writing its checkpoint now.
    taken = {name for pack in under_way for name in ids_when_halved(pack)}
    like = resume_fingerprint(config["save_weights"], place.device)
    resumed = checkpoints.find(directory, missing, finished, like, taken)
    done = finished | held.keys() | {run for pack in resumed for run in pack}
    tuner = Autotuner(
        config["planner"],
        place.device,
        pool if place.forks else None,
        place.workers,
        store.read_study(directory).get("planner", {}),
    )
    tuner.plan(group for group in groups if unfinished(group.runs, done))
    packs = [*packs_of(groups, resumed), *pack_runs(groups, tuner.pack_size, done)]
    return Work(todo, groups, under_way, packs, tuner)


def _train(
    console: Console,
    work: Work,
    directory: Path,
    place: Place,
    tracker: tracking.Tracker,
    pool: Pool,
) -> dict[str, str]:
    """Trains all packs; returns why runs failed, by their labels."""
    packs = work.all_packs
    if not packs:
        return {}
    runs = sum(len(pack.runs) for pack in packs)
    steps = sum(len(pack.runs) * pack.group.schedule.steps for pack in packs)
    _collect_garbage()
    with Progress(console, directory, runs, steps, len(packs)) as progress:
        failed = backends.train(place, packs, directory, tracker, progress, pool)
    if progress.to_first_step is not None:
        _note_seconds(
            directory,
            to_first_step=progress.to_first_step,
            training=seconds_running() - progress.to_first_step,
        )
    if work.todo:
        trained = len(work.todo) - len(failed)
        _say(console, f"trained {trained} runs at {progress.speed:,.0f} member-steps/s")
    return failed


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _collect_garbage() -> None:
    """From here on. What was imported stays, and no collection need look through it."""
    gc.freeze()
    gc.enable()


def _say_failed(failed: dict[str, str]) -> None:
    for label, reason in failed.items():
        sys.stderr.write(f"initstudy: {label}: failed: {reason}\n")
    sys.stderr.write(f"initstudy: {len(failed)} runs failed; the same command tries them again\n")
    sys.exit(RUNS_FAILED)


def _tracking(section: Plain) -> tracking.Settings:
    try:
        return tracking.check(tracking.Settings(**section))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_claims(claims: Plain) -> None:
    if claims:
        from initstudy.claims.claim import check

        check(claims)


def _opening(runs: Sequence[Run], work: Work, directory: Path, place: Place) -> str:
    todo, packs = len(work.todo), len(work.all_packs)
    done = f"{len(runs) - todo} of {len(runs)} complete"
    if not todo:
        return f"{directory}: {done}"
    plural = "s" if packs > 1 else ""
    return f"{directory}: {done}; training {todo} in {packs} pack{plural} on {place}"


def _write_study(
    config: DictConfig, directory: Path, command: str, place: Place, work: Work, runs: int
) -> None:
    """Writes the study's description; what an earlier command has trained stays described."""
    previous = store.read_study(directory)
    layers = dict(previous.get("layers", {}))
    for group in work.groups:
        target = group.config.model["_target_"].rsplit(".", 1)[-1]
        layers[target] = [layer.name for layer in group.layers]
    claims: Plain = OmegaConf.to_container(config.claims, resolve=True)  # type: ignore[assignment]
    described: dict[str, Any] = {
        "name": directory.name,
        "command": command,
        **{key: config[key] for key in ("by", "across", "tune", "criterion")},
        "paper": OmegaConf.to_container(config.paper, resolve=True),
        "claims": claims,
        "layers": layers,
        "runs": runs,
        "planner": work.tuner.record(),
    }
    if work.all_packs:
        described |= {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "device": _device_name(place),
            "versions": {
                "initstudy": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "torchvision", "wandb")},
            },
        }
    store.write_study(directory, previous | described)


def _note_seconds(directory: Path, **seconds: float) -> None:
    """Adds to the study's description how long the parts of the last command took."""
    described = store.read_study(directory)
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    store.write_study(directory, described | {"seconds": described.get("seconds", {}) | rounded})


def _to_continue(config: DictConfig, directory: Path, command: str) -> str:
    """The command line, with the study's name if it would get another one by the clock."""
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    if "${now:" in str(written["name"]) and "${name}" in str(written["dir"]):
        return f"{command} {shlex.quote(f'name={directory.name}')}"
    return command


def _device_name(place: Place) -> str:
    device = place.device
    if place.elsewhere:
        return f"{place}, {device}"
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"


def _report(console: Console, directory: Path, tracker: tracking.Tracker | None) -> None:
    """Writes and shows the report; a tracker logs it as the sweep's own run."""
    from initstudy.report import write
    from initstudy.report.page.terminal import show

    if tracker is not None and tracker.address:
        # So that every row of the report's table leads to its run.
        store.write_study(directory, store.read_study(directory) | {"wandb": tracker.address})
    begun = seconds_running()
    written = write(directory)
    _note_seconds(directory, report=seconds_running() - begun)
    show(console, written)
    if tracker is not None:
        charts = directory / "report" / "charts"
        tracker.study(
            tracking.StudyRecord(
                directory,
                written.index,
                written.headline,
                [asdict(result) for result in written.results],
                written.charts,
                {name: charts / f"{name}.png" for name in written.charts},
                written.runs,
            )
        )
