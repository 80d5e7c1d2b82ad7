"""Runs packs one after another and hands every row to its sinks: store, tracker, progress."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError

from initstudy import store
from initstudy.checkpoints import Checkpoint
from initstudy.config import Plain, Run, as_columns
from initstudy.ensemble import Row, State, Summary
from initstudy.ensemble.stack import Tensors
from initstudy.sweep.pack import Resumption, Start, layer_names, train_pack
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

    def promise(self, pack: str, runs: Sequence[tuple[Run, Plain, dict[str, Any]]]) -> None:
        """The runs of a pack, as described, are about to be in the store with final values."""

    def finish(self, pack: str) -> None:
        """The store has them."""

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
    # By default cuDNN would round to TF32, though matrix products do not.
    torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"
    failed: dict[str, str] = {}
    waiting = list(packs)[::-1]
    while waiting:
        pack = waiting.pop()
        config = pack.runs[0].config
        ids = [run.id for run in pack.runs]
        every = config["checkpoint"]["every"]
        checkpoint = Checkpoint(directory, pack.id, ids, every, alike(config, device))
        progress.begin(pack.id)
        try:
            _complete(pack, directory, device, tracker, progress, checkpoint)
        except store.StoreError:
            raise
        except Exception as error:
            # A user's model may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            tracker.discard(ids)
            checkpoint.remove()
            if checkpoint.resumed:
                log.warning("a pack cannot go on from its checkpoint (%s); begun anew", reason)
                waiting.append(pack)
            elif len(pack.runs) > 1:
                log.warning("%d runs could not train together (%s); halved", len(pack.runs), reason)
                waiting += halves(pack)[::-1]
            else:
                run = pack.runs[0]
                failed[run.label] = reason
                store.write_failure(directory, run.id, reason, run.config)
                progress.finish(run.id, failed=True)
        progress.end(pack.id)
        # What a pack held, most of all one that did not fit, may hang in cycles.
        gc.collect()
    return failed


def alike(config: Plain, device: torch.device) -> dict[str, Any]:
    """What two trainings of a pack have in common where one goes on from the other's state."""
    kept = config["save_weights"]
    return {"torch": torch.__version__, "device": device.type, "save_weights": kept}


def _complete(
    pack: Pack,
    directory: Path,
    device: torch.device,
    tracker: Tracker,
    progress: Counter,
    checkpoint: Checkpoint,
) -> None:
    described = describe(pack)
    for run in pack.runs:
        _write_hydra_files(directory / "runs" / run.id / ".hydra", run)
        tracker.start(run.id, described[run.id], run.label)
    partway = checkpoint.load()
    history, ended = partway.history, partway.ended
    for row in history:
        values = {key: row[key] for key in row if key not in ("run", "step")}
        tracker.log(row["run"], row["step"], values)
        progress.resume(row["run"], row["step"])
    begun = time.perf_counter() - partway.seconds
    for item in train_pack(pack, device, Resumption(partway.state, checkpoint.due)):
        if isinstance(item, State):
            spent = time.perf_counter() - begun
            checkpoint.save(replace(partway, state=item, seconds=spent))
            continue
        run = pack.runs[item.member]
        if isinstance(item, Start):
            _save(directory, run, "init", item.weights)
        elif isinstance(item, Row):
            history.append({"run": run.id, "step": item.step, **item.values})
            tracker.log(run.id, item.step, item.values)
            loss = item.values.get("train/loss")
            progress.step(run.id, item.step, loss if isinstance(loss, float) else None)
        elif isinstance(item, Summary):
            ended[run.id] = {**item.values, **_arithmetic(device)}
            if item.weights is not None:
                _save(directory, run, "final", item.weights)
    # Members train at the same time: a run's share is all that can be said of its own.
    share = (time.perf_counter() - begun) / len(pack.runs)
    finished = [
        {"run": r.id, **r.choices, **as_columns(r.config), **ended[r.id]} for r in pack.runs
    ]
    tracker.promise(pack.id, [(run, described[run.id], ended[run.id]) for run in pack.runs])
    store.write_pack(directory, pack.id, finished, history, share)
    checkpoint.remove()
    tracker.finish(pack.id)
    for run in pack.runs:
        progress.finish(run.id, diverged=ended[run.id]["diverged_step"] is not None)


def _arithmetic(device: torch.device) -> dict[str, str]:
    """What the last digits of a run's results depend on."""
    precision = torch.get_float32_matmul_precision()
    return {"device": str(device), "torch": torch.__version__, "float32_precision": precision}


def describe(pack: Pack) -> dict[str, Plain]:
    """Each run's configuration, with what a report needs besides to be drawn from W&B alone."""
    layers = layer_names(pack)
    return {
        run.id: {**run.config, "choices": dict(run.choices), "layers": layers} for run in pack.runs
    }


def _save(directory: Path, run: Run, moment: str, weights: Tensors) -> None:
    try:
        save_weights(directory / "runs" / run.id, moment, weights)
    except (OSError, SafetensorError) as error:
        raise store.StoreError(f"dir={directory}: weights cannot be written: {error}") from error


def _write_hydra_files(folder: Path, run: Run) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(run.config), folder / "config.yaml")
        OmegaConf.save(OmegaConf.create(list(run.overrides)), folder / "overrides.yaml")
    except OSError as error:
        raise store.StoreError(f"dir={folder}: cannot be written: {error.strerror}") from error
