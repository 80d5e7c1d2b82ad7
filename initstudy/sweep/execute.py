"""Runs packs one after another and hands every row to its sinks: store, tracker, progress."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError

from initstudy import store
from initstudy.config import OF_THE_SWEEP, Run, flatten
from initstudy.ensemble import Row, Summary
from initstudy.ensemble.stack import Tensors
from initstudy.sweep.pack import Start, train_pack
from initstudy.sweep.plan import Pack, halves
from initstudy.sweep.progress import Counter
from initstudy.weights import save_weights

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a pack's rows are mirrored to, besides the store."""

    def start(self, run: str, config: dict[str, Any], name: str) -> None:
        """A run begins."""

    def log(self, run: str, step: int, row: dict[str, Any]) -> None:
        """One row of its history."""

    def finish(self, run: str, summary: dict[str, Any]) -> None:
        """It ends, with these final values."""

    def discard(self, runs: Sequence[str]) -> None:
        """They came to nothing; they may begin anew."""


def execute(
    packs: Sequence[Pack],
    directory: Path,
    device: torch.device,
    tracker: Tracker,
    progress: Counter,
) -> dict[str, str]:
    """Trains every pack and writes it to the store as soon as it is complete.

    A pack that cannot be trained, for lack of memory or because a model raises, is halved and tried
    again, until what is left of it is the run at fault. That one is recorded as failed, and the
    rest goes on.

    Returns:
        Why runs failed, by their labels.

    Raises:
        StoreError: The store cannot be written.
    """
    failed: dict[str, str] = {}
    waiting = list(packs)[::-1]
    while waiting:
        pack = waiting.pop()
        try:
            _complete(pack, directory, device, tracker, progress)
        except store.StoreError:
            raise
        except Exception as error:
            # A user's model may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            tracker.discard([run.id for run in pack.runs])
            if len(pack.runs) > 1:
                log.warning("%d runs could not train together (%s); halved", len(pack.runs), reason)
                waiting += halves(pack)[::-1]
            else:
                run = pack.runs[0]
                failed[run.label] = reason
                store.write_failure(directory, run.id, reason, run.config)
                progress.finish(run.id, diverged=False)
        # What a pack held, most of all one that did not fit, may hang in cycles.
        gc.collect()
    return failed


def _complete(
    pack: Pack, directory: Path, device: torch.device, tracker: Tracker, progress: Counter
) -> None:
    for run in pack.runs:
        _write_hydra_files(directory / "runs" / run.id / ".hydra", run)
        tracker.start(run.id, run.config, run.label)
    history: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []
    ends: list[tuple[str, dict[str, Any]]] = []
    begun = time.perf_counter()
    for item in train_pack(pack, device):
        run = pack.runs[item.member]
        if isinstance(item, Start):
            _save(directory, run, "init", item.weights)
        elif isinstance(item, Row):
            history.append({"run": run.id, "step": item.step, **item.values})
            tracker.log(run.id, item.step, item.values)
            progress.step(run.id, item.step)
        elif isinstance(item, Summary):
            values = {**item.values, "device": str(device), "torch": torch.__version__}
            finished.append({"run": run.id, **run.choices, **columns(run), **values})
            ends.append((run.id, values))
            if item.weights is not None:
                _save(directory, run, "final", item.weights)
    # Members train at the same time: a run's share is all that can be said of its own.
    share = (time.perf_counter() - begun) / len(pack.runs)
    store.write_pack(directory, pack.id, [{**row, "seconds": share} for row in finished], history)
    for run_id, values in ends:
        tracker.finish(run_id, values)
        progress.finish(run_id, diverged=values["diverged_step"] is not None)


def _save(directory: Path, run: Run, moment: str, weights: Tensors) -> None:
    try:
        save_weights(directory / "runs" / run.id, moment, weights)
    except (OSError, SafetensorError) as error:
        raise store.StoreError(f"dir={directory}: weights cannot be written: {error}") from error


def columns(run: Run) -> dict[str, Any]:
    """The configuration as columns of the store."""
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
