"""What the command does with a composed grid: groups, packs, training, and the report."""

from __future__ import annotations

import datetime
import gc
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from initstudy import __version__, store, tracking
from initstudy.config import ConfigError, Plain, Run
from initstudy.runtime import signals
from initstudy.runtime.clock import seconds_running
from initstudy.scheduling.backends.choose import choose, submitted, under_way
from initstudy.scheduling.backends.contract import Backend
from initstudy.scheduling.progress import Progress
from initstudy.scheduling.recorder import Recorder
from initstudy.scheduling.scheduler import Scheduler
from initstudy.scheduling.superseded import Superseded, superseded, told
from initstudy.scheduling.until_decided import Looking
from initstudy.scheduling.work import Work, left_to_do
from initstudy.store import locks
from initstudy.training.identity import fingerprinted

RUNS_FAILED = 3


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
    signals.advise(f"to continue: {_to_continue(config, directory, command)}")
    settings = check(runs)
    # What was read for the fingerprints is held until the groups have it.
    runs, _read = fingerprinted(runs)
    backend = choose(runs[0].config, directory)
    store.ensure_writable(directory)
    with locks.lock(directory), closing(backend):
        for line in store.set_aside_damaged(directory):
            _say(console, line)
        looking = Looking.of(runs, config, directory)
        stage = Stage(console, config, directory, command, backend, runs, looking)
        some = runs if looking is None else looking.first()
        work = stage.prepare(some)
        # W&B finishes while the report is drawn.
        with tracking.Tracker(settings, directory, group=directory.name) as tracker:
            retries = runs[0].config["executor"]["retries"]
            failed = _train(console, work, directory, backend, tracker, retries)
            while looking is not None and (more := looking.next()) is not None:
                _say(console, looking.said())
                work = stage.prepare(more)
                failed |= _train(console, work, directory, backend, tracker, retries)
            if looking is not None:
                _say(console, looking.said())
            if not report:
                _say(console, f"its report: python -m initstudy.report {directory}")
            elif store.finished(directory):
                _report(console, directory, tracker if len(runs) > 1 else None)
    if failed:
        _say_failed(failed)


@dataclass(frozen=True)
class Stage:
    """What it takes to put runs of a study into packs, as often as its claims ask for more runs."""

    console: Console
    config: DictConfig
    directory: Path
    command: str
    backend: Backend
    grid: Sequence[Run]
    looking: Looking | None

    def prepare(self, runs: Sequence[Run]) -> Work:
        """Puts the runs that are missing into packs, and writes the study's description.

        Raises:
            ConfigError: Something cannot be built; of the first stage, nothing has trained.
            StoreError: The directory cannot be written.
        """
        earlier = under_way(self.backend, self.directory)
        work = left_to_do(runs, self.directory, self.backend, earlier)
        old = superseded(self.directory, self.grid)
        _write_study(self.config, self.directory, self.command, self.backend, work, runs, old)
        for line in told(old):
            _say(self.console, line)
        if self.looking is None and store.read_study(self.directory).get("looks"):
            store.write_study(self.directory, store.read_study(self.directory) | {"looks": None})
        _say(self.console, _opening(runs, work, self.directory, self.backend))
        return work


def check(runs: Sequence[Run]) -> tracking.Settings:
    """Checks what a study needs besides its groups; gives the settings of its tracker.

    Raises:
        ConfigError: The grid is empty, W&B cannot be used as asked, or a claim cannot be decided.
    """
    if not runs:
        raise ConfigError("the sweep is empty: it has no run")
    config = runs[0].config
    if config["claims"]:
        from initstudy.claims import check as check_claims

        check_claims(config["claims"])
    try:
        return tracking.check(tracking.Settings(**config["tracking"]))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def dry_run(runs: Sequence[Run], directory: Path) -> Work:
    """What `study` would train in a directory, found out without writing or timing anything.

    Raises:
        ConfigError: What `study` itself would refuse.
        StoreError: The directory cannot be read.
    """
    check(runs)
    runs, _read = fingerprinted(runs)
    with closing(choose(runs[0].config, directory)) as backend:
        return left_to_do(runs, directory, backend, submitted(directory), dry=True)


def _train(
    console: Console,
    work: Work,
    directory: Path,
    backend: Backend,
    tracker: tracking.Tracker,
    retries: int,
) -> dict[str, str]:
    """Trains all packs; returns why runs failed, by their labels."""
    packs = work.all_packs
    if not packs:
        return {}
    runs = sum(len(pack.runs) for pack in packs)
    steps = sum(len(pack.runs) * pack.group.schedule.steps for pack in packs)
    _collect_garbage()
    with Progress(console, directory, runs, steps, len(packs)) as progress:
        recorder = Recorder(directory, backend.device, tracker, progress)
        failed = Scheduler(backend, recorder, retries).run(
            work.packs, under_way=work.under_way, results=work.earlier.results()
        )
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


def _opening(runs: Sequence[Run], work: Work, directory: Path, backend: Backend) -> str:
    todo, packs = len(work.todo), len(work.all_packs)
    done = f"{len(runs) - todo} of {len(runs)} complete"
    if not todo:
        return f"{directory}: {done}"
    plural = "s" if packs > 1 else ""
    return f"{directory}: {done}; training {todo} in {packs} pack{plural} on {backend}"


def _write_study(
    config: DictConfig,
    directory: Path,
    command: str,
    backend: Backend,
    work: Work,
    grid: Sequence[Run],
    old: Sequence[Superseded],
) -> None:
    """Writes the study's description; what an earlier command has trained stays described."""
    from initstudy.claims import declared

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
        "declared": declared.declare(
            previous.get("declared", {}), claims, len(store.finished(directory))
        ),
        **work.schema.description(),
        "layers": layers,
        "runs": len(grid),
        "superseded": sorted(
            {*previous.get("superseded", ()), *(run.id for run in old)} - {run.id for run in grid}
        ),
        "planner": work.tuner.record(),
    }
    if work.all_packs:
        described |= {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "device": backend.hardware,
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
                [result.as_row() for result in written.results],
                written.charts,
                {name: charts / f"{name}.png" for name in written.charts},
                written.runs,
            )
        )
