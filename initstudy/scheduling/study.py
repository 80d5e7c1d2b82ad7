"""What the command does with a composed grid: groups, packs, training, and the report."""

from __future__ import annotations

import datetime
import gc
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from initstudy import __version__, store, tracking
from initstudy.columns import Schema
from initstudy.config import ConfigError, Plain, Run, Swept
from initstudy.runtime import signals
from initstudy.runtime.clock import seconds_running
from initstudy.runtime.repository import revision
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


@dataclass(frozen=True)
class Trained:
    """What has become of a grid.

    Attributes:
        failed: Why runs failed, by their labels.
        ids: The id of each run in the store, by the id of its configuration alone.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)


def study(
    runs: Sequence[Run],
    config: DictConfig,
    directory: Path,
    *,
    command: str,
    report: bool = True,
    accept: Callable[[Schema], None] | None = None,
) -> Trained:
    """Trains the runs that are not finished in `directory` and writes the report.

    Args:
        runs: The grid.
        config: The composed configuration of the study as a whole: its claims, the studied key.
        directory: The study's directory.
        command: The command that was given, as a line for a shell; it does this again.
        report: Whether to draw the report, rather than leave it to a later call.
        accept: Is given what the study measures before anything trains, and raises ConfigError if
            its caller has no use for that.

    Returns:
        Which runs failed; the others are trained and reported.

    Raises:
        ConfigError: Something is wrong; nothing has trained.
        StoreError: The directory cannot be written, or another study is writing there.
    """
    console = Console()
    directory = _short(directory)
    signals.advise(f"to continue: {_to_continue(config, directory, command)}")
    settings = check(runs)
    composed = [run.id for run in runs]
    # What was read for the fingerprints is held until the groups have it.
    runs, _read = fingerprinted(runs)
    backend = choose(runs[0].config, directory)
    store.ensure_writable(directory)
    with locks.lock(directory), closing(backend):
        for line in store.set_aside_damaged(directory):
            _say(console, line)
        swept = Swept.of(runs).after(Swept.described(store.read_study(directory)))
        runs = [replace(run, swept=swept.keys) for run in runs]
        looking = Looking.of(runs, config, directory)
        stage = Stage(
            console, config, directory, command, backend, runs, swept, looking, report, accept
        )
        work = stage.prepare(runs if looking is None else looking.first())
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
                _note_address(directory, tracker)
            elif store.finished(directory):
                _report(console, directory, tracker if len(runs) > 1 else None)
    if failed:
        _say_failed(failed)
    return Trained(failed, dict(zip(composed, (run.id for run in runs), strict=True)))


def report_alone(directory: Path, config: Plain) -> None:
    """Draws the report of a study whose runs were trained one batch after another.

    Args:
        directory: The study's directory.
        config: The configuration of one of its runs.

    Raises:
        StoreError: The directory cannot be written, or another study is writing there.
    """
    directory = _short(directory)
    if not store.finished(directory):
        return
    settings = tracking.check(tracking.Settings(**config["tracking"]))
    with (
        locks.lock(directory),
        tracking.Tracker(settings, directory, group=directory.name) as tracker,
    ):
        _report(Console(), directory, tracker)


def _short(directory: Path) -> Path:
    """A directory relative to the current one, if it lies in there."""
    here = Path.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) else directory


@dataclass(frozen=True)
class Stage:
    """What it takes to put runs of a study into packs, as often as its claims ask for more runs.

    Attributes:
        console: Where its lines are printed.
        config: The composed configuration of the study as a whole.
        directory: The study's directory.
        command: The command that was given.
        backend: Where its packs train.
        grid: All runs that there may be.
        swept: What the grid sweeps.
        looking: The looks at the claims; None if the grid is trained as it is.
        whole: Whether the grid is all of the study, or one batch of it.
        accept: Raises ConfigError if the caller has no use for what is measured.
    """

    console: Console
    config: DictConfig
    directory: Path
    command: str
    backend: Backend
    grid: Sequence[Run]
    swept: Swept
    looking: Looking | None
    whole: bool
    accept: Callable[[Schema], None] | None

    def prepare(self, runs: Sequence[Run]) -> Work:
        """Puts the runs that are missing into packs, and writes the study's description.

        Raises:
            ConfigError: Something cannot be built; of the first stage, nothing has trained.
            StoreError: The directory cannot be written.
        """
        earlier = under_way(self.backend, self.directory)
        work = left_to_do(runs, self.directory, self.backend, earlier)
        old = superseded(self.directory, self.grid)
        check_measured(self.grid[0].config, work.schema, self.accept)
        grid = _described(self.directory, runs, self.swept, old, whole=self.whole)
        _write_study(self.config, self.directory, self.command, self.backend, work, grid)
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
        return tracking.check(tracking.Settings(**config["tracking"]), runs=len(runs))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_measured(
    config: Plain, schema: Schema, accept: Callable[[Schema], None] | None = None
) -> None:
    """Checks what a study wants to know against what it will measure.

    Args:
        config: The configuration of one of its runs.
        schema: What it will measure.
        accept: A check of the caller's own.

    Raises:
        ConfigError: A claim is about a metric that there is not, or `accept` raises one.
    """
    if accept is not None:
        accept(schema)
    if config["claims"]:
        from initstudy.claims.metrics import check_metrics

        check_metrics(config["claims"], schema, config["criterion"])


def dry_run(runs: Sequence[Run], directory: Path) -> Work:
    """What `study` would train in a directory, found out without writing or timing anything.

    Raises:
        ConfigError: What `study` itself would refuse.
        StoreError: The directory cannot be read.
    """
    check(runs)
    runs, _read = fingerprinted(runs)
    with closing(choose(runs[0].config, directory)) as backend:
        work = left_to_do(runs, directory, backend, submitted(directory), dry=True)
        check_measured(runs[0].config, work.schema)
        return work


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


def _opening(runs: Sequence[Run], work: Work, directory: Path, backend: Backend) -> str:
    todo, packs = len(work.todo), len(work.all_packs)
    done = f"{len(runs) - todo} of {len(runs)} complete"
    if not todo:
        return f"{directory}: {done}"
    plural = "s" if packs > 1 else ""
    return f"{directory}: {done}; training {todo} in {packs} pack{plural} on {backend}"


def _described(
    directory: Path, runs: Sequence[Run], swept: Swept, old: Sequence[Superseded], *, whole: bool
) -> Plain:
    """What the description of a study says of its grid.

    Args:
        directory: The study's directory.
        runs: The grid, or one batch of it.
        swept: What the grid sweeps.
        old: The runs that were trained with other code or data.
        whole: Whether `runs` are all of the grid.
    """
    ids = {run.id for run in runs}
    earlier = set() if whole else store.finished(directory)
    before = store.read_study(directory).get("superseded", ())
    return {
        "runs": len(ids | earlier),
        "superseded": sorted({*before, *(run.id for run in old)} - ids),
        **swept.description(),
    }


def _write_study(
    config: DictConfig, directory: Path, command: str, backend: Backend, work: Work, grid: Plain
) -> None:
    """Writes the study's description; what an earlier command has trained stays described.

    Args:
        config: The composed configuration of the study as a whole.
        directory: The study's directory.
        command: The command that was given.
        backend: Where its packs train.
        work: What there is to train.
        grid: What the description says of the grid, as `_described` gives it.
    """
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
        **grid,
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
            "repository": revision(Path.cwd()),
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


def _note_address(directory: Path, tracker: tracking.Tracker) -> None:
    """Adds the project's address, so that every row of the report's table leads to its run."""
    if tracker.address:
        store.write_study(directory, store.read_study(directory) | {"wandb": tracker.address})


def _report(console: Console, directory: Path, tracker: tracking.Tracker | None) -> None:
    """Writes and shows the report; a tracker logs it as the sweep's own run."""
    from initstudy.report import write
    from initstudy.report.page.terminal import show

    if tracker is not None:
        _note_address(directory, tracker)
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
