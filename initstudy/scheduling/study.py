"""What the command does with composed configurations: check, train what is missing, report."""

from __future__ import annotations

import datetime
import gc
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from initstudy import __version__, store, tracking
from initstudy.config import ConfigError, Plain, Run
from initstudy.runtime import signals as stopping
from initstudy.runtime.clock import seconds_running
from initstudy.scheduling import packing as plan
from initstudy.scheduling.backends import choose as executors
from initstudy.scheduling.backends.forks import Pool
from initstudy.scheduling.execute import alike
from initstudy.scheduling.planner import Planner
from initstudy.scheduling.progress import Progress
from initstudy.store import locks
from initstudy.training import checkpoints
from initstudy.training import factory as build
from initstudy.training.pack import steps

RUNS_FAILED = 3


def study(
    runs: Sequence[Run],
    config: DictConfig,
    directory: Path,
    overrides: list[str],
    *,
    report: bool = True,
) -> None:
    """Trains the runs that are not finished in `directory` and writes the report.

    Args:
        runs: The grid.
        config: The composed configuration of the sweep as a whole: claims, the studied key.
        directory: Of the sweep.
        overrides: What the user gave, to say how to do it again.
        report: Whether to draw it; a launcher that hands over one run at a time would do so for
            each of them.

    Raises:
        ConfigError: Something is wrong; nothing has trained.
        StoreError: The directory cannot be written, or another sweep is writing there.
        SystemExit: With code 3, runs failed; the others are trained and reported.
    """
    console = Console()
    if directory.is_relative_to(Path.cwd()):
        directory = directory.relative_to(Path.cwd())
    if not runs:
        raise ConfigError("the sweep is empty: it has no run")
    first = runs[0].config
    stopping.advise(f"to continue: {_to_continue(config, directory, overrides)}")
    place = executors.choose(first)
    settings = _tracking(first["tracking"])
    _check_claims(first["claims"])
    store.ensure_writable(directory)
    with locks.lock(directory), Pool() as pool:
        for line in store.set_aside_damaged(directory):
            console.print(line, highlight=False, soft_wrap=True)
        under_way = executors.under_way(place, directory)
        todo, packs, planner = _plan(runs, directory, place, under_way, pool)
        if place.forks:
            place = replace(place, workers=planner.workers)
        _write_study(config, directory, overrides, place, packs, len(runs), planner.record())
        packs = under_way + packs
        opening = _opening(runs, todo, packs, directory, place)
        console.print(opening, highlight=False, soft_wrap=True)
        failed: dict[str, str] = {}
        # W&B finishes while the report is drawn.
        with tracking.Tracker(settings, directory, group=directory.name) as tracker:
            if packs:
                handed = [run for pack in packs for run in pack.runs]
                total = sum(steps(run.config) for run in handed)
                _collect_garbage()
                with Progress(console, directory, len(handed), total, len(packs)) as progress:
                    failed = executors.train(place, packs, directory, tracker, progress, pool)
                if progress.to_first_step is not None:
                    _note_seconds(
                        directory,
                        to_first_step=progress.to_first_step,
                        training=seconds_running() - progress.to_first_step,
                    )
            if todo:
                trained = f"trained {len(todo) - len(failed)} runs at"
                console.print(f"{trained} {progress.speed:,.0f} member-steps/s", highlight=False)
            if not report:
                said = f"its report: python -m initstudy.report {directory}"
                console.print(said, highlight=False)
            elif store.finished(directory):
                _report(console, directory, tracker if len(runs) > 1 else None)
    if failed:
        _say_failed(failed)


def _plan(
    runs: Sequence[Run],
    directory: Path,
    place: executors.Place,
    under_way: Sequence[plan.Pack],
    pool: Pool,
) -> tuple[list[Run], list[plan.Pack], Planner]:
    """The runs that are missing, the packs of those that are not under way, and who chose them.

    Packs come first that can go on where they were.
    """
    config = runs[0].config
    finished = store.finished(directory)
    todo = plan.unfinished(runs, finished)
    held = {run.id for pack in under_way for run in pack.runs}
    new = plan.unfinished(todo, held)
    # A job that has a pack may be writing its checkpoint now.
    taken = {name for pack in under_way for name in plan.ids_when_halved(pack)}
    missing = [run.id for run in new]
    like = alike(config, place.device)
    resumed = checkpoints.find(directory, missing, finished, like, taken)
    done = finished | held | {run for pack in resumed for run in pack}
    sizes = plan.check(new)
    planner = Planner(
        config["planner"],
        place.device,
        pool if place.forks else None,
        place.workers,
        store.read_study(directory).get("planner", {}),
    )
    planner.plan(runs, {run: size for run, size in sizes.items() if run not in done})
    fresh = plan.plan(runs, planner.pack_size, done)
    return todo, [*plan.together(new, resumed), *fresh], planner


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


def _opening(
    runs: Sequence[Run],
    todo: Sequence[Run],
    packs: Sequence[plan.Pack],
    directory: Path,
    place: executors.Place,
) -> str:
    done = f"{len(runs) - len(todo)} of {len(runs)} complete"
    if not todo:
        return f"{directory}: {done}"
    plural = "s" if len(packs) > 1 else ""
    return f"{directory}: {done}; training {len(todo)} in {len(packs)} pack{plural} on {place}"


def _write_study(
    config: DictConfig,
    directory: Path,
    overrides: list[str],
    place: executors.Place,
    packs: Sequence[plan.Pack],
    runs: int,
    planned: Plain,
) -> None:
    """The study's description; what an earlier call has trained stays described."""
    previous = store.read_study(directory)
    layers = dict(previous.get("layers", {}))
    for pack in packs:
        shared = pack.runs[0].config
        layers[shared["model"]["_target_"].rsplit(".", 1)[-1]] = build.layer_names(shared)
    claims: Plain = OmegaConf.to_container(config.claims, resolve=True)  # type: ignore[assignment]
    described: dict[str, Any] = {
        "name": directory.name,
        "command": shlex.join(["python", "-m", "initstudy", *_arguments(overrides)]),
        **{key: config[key] for key in ("by", "across", "tune", "criterion")},
        "paper": OmegaConf.to_container(config.paper, resolve=True),
        "claims": claims,
        "layers": layers,
        "runs": runs,
        "planner": planned,
    }
    if packs:
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


def _arguments(overrides: list[str]) -> list[str]:
    """The command line as it was given, or the overrides where there is none."""
    given = Path(sys.argv[0]).parent.name == "initstudy"
    return sys.argv[1:] if given else overrides


def _to_continue(config: DictConfig, directory: Path, overrides: list[str]) -> str:
    """The command line, with the study's name where it would get another one by the clock."""
    command = ["python", "-m", "initstudy", *_arguments(overrides)]
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    if "${now:" in str(written["name"]) and "${name}" in str(written["dir"]):
        command.append(f"name={directory.name}")
    return shlex.join(command)


def _device_name(place: executors.Place) -> str:
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
