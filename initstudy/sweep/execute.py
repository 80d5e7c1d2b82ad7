"""Runs packs one after another and hands every row to its sinks: store, tracker, progress."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import OmegaConf

from initstudy import store
from initstudy.config import Run, flatten
from initstudy.ensemble import Row, Summary
from initstudy.sweep.pack import train_pack
from initstudy.sweep.plan import Pack
from initstudy.sweep.progress import Progress

# Keys that describe the sweep, not the run.
OF_THE_SWEEP = (
    "name", "dir", "by", "across", "tune", "criterion", "paper", "claims", "exclude",
)  # fmt: skip


class Tracker(Protocol):
    """What a pack's rows are mirrored to, besides the store."""

    def start(self, run: str, config: dict[str, Any], name: str) -> None:
        """A run begins."""

    def log(self, run: str, step: int, row: dict[str, Any]) -> None:
        """One row of its history."""

    def finish(self, run: str, summary: dict[str, Any]) -> None:
        """It ends, with these final values."""


def execute(
    packs: Sequence[Pack],
    directory: Path,
    device: torch.device,
    tracker: Tracker,
    progress: Progress,
) -> None:
    """Trains every pack and writes it to the store as soon as it is complete."""
    for pack in packs:
        for run in pack.runs:
            _write_hydra_files(directory / "runs" / run.id / ".hydra", run)
            tracker.start(run.id, run.config, run.label)
        runs, history = _train(pack, device, tracker, progress)
        store.write_pack(directory, pack.id, runs, history)


def _train(
    pack: Pack, device: torch.device, tracker: Tracker, progress: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    history: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []
    begun = time.perf_counter()
    for item in train_pack(pack, device):
        run = pack.runs[item.member]
        if isinstance(item, Row):
            history.append({"run": run.id, "step": item.step, **item.values})
            tracker.log(run.id, item.step, item.values)
            progress.step(run.id, item.step)
        elif isinstance(item, Summary):
            where = {"device": str(device), "torch": torch.__version__}
            tracker.finish(run.id, {**item.values, **where})
            finished.append({"run": run.id, **run.choices, **_columns(run), **item.values, **where})
            progress.finish(run.id, diverged=item.values["diverged_step"] is not None)
    # Members train at the same time: a run's share is all that can be said of its own.
    share = (time.perf_counter() - begun) / len(pack.runs)
    return [{**row, "seconds": share} for row in finished], history


def _columns(run: Run) -> dict[str, Any]:
    """The configuration as columns; numbers that are floats somewhere are floats everywhere."""
    flat = flatten({k: v for k, v in run.config.items() if k not in OF_THE_SWEEP})
    return {key: _cell(value) for key, value in flat.items()}


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple | dict) else value


def _write_hydra_files(folder: Path, run: Run) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(run.config), folder / "config.yaml")
        OmegaConf.save(OmegaConf.create(list(run.overrides)), folder / "overrides.yaml")
    except OSError as error:
        raise store.StoreError(f"dir={folder}: cannot be written: {error.strerror}") from error
