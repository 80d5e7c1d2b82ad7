"""Runs packs one after another and hands every row to its sinks: store, tracker, progress."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from initstudy import store
from initstudy.config import Plain, Run, as_columns
from initstudy.engine.stack import Tensors
from initstudy.engine.state import State
from initstudy.engine.train import Row, Summary
from initstudy.scheduling.backends.forked import one_line
from initstudy.scheduling.backends.forks import Fork, Here, LostError, Pool, Trainer
from initstudy.scheduling.packing import halves
from initstudy.scheduling.progress import Counter
from initstudy.store import hydra_files
from initstudy.store.weights import save_weights
from initstudy.training.checkpoints import Checkpoint, Partway
from initstudy.training.group import Pack
from initstudy.training.pack import Resumption, Start

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
    pool: Pool | None = None,
    workers: int = 1,
) -> dict[str, str]:
    """Trains every pack and writes it to the store as soon as it is complete.

    A pack that cannot be trained, for lack of memory or because a model raises, is halved and tried
    again, until what is left of it is the run at fault. That one is recorded as failed, and the
    rest goes on.

    Args:
        packs: What to train.
        directory: The sweep's.
        device: Where this process trains.
        tracker: What rows are mirrored to.
        progress: What hears of them.
        pool: Forks that train instead of this process.
        workers: How many of them.

    Returns:
        Why runs failed, by their labels.

    Raises:
        StoreError: The store cannot be written.
    """
    # By default cuDNN would round to TF32, though matrix products do not.
    torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"
    work = _Work(packs, directory, device, tracker, progress)
    forks = pool.take(min(workers, len(packs)) if workers > 1 else 0) if pool else []
    if forks:
        _side_by_side(work, forks)
    else:
        work.through(Here(device))
    return work.failed


def _side_by_side(work: _Work, forks: Sequence[Fork]) -> None:
    """Has each fork train what another one has not begun yet."""
    with ThreadPoolExecutor(len(forks)) as threads:
        trainings = [threads.submit(work.through, fork) for fork in forks]
        try:
            for training in as_completed(trainings):
                training.result()
        except BaseException:
            # A signal, or the store: what the others train is of no more use.
            work.stopped = True
            for fork in forks:
                fork.kill()
            raise


class _Work:
    """Packs on their way through one or several trainers, and the sinks that these share."""

    def __init__(
        self,
        packs: Sequence[Pack],
        directory: Path,
        device: torch.device,
        tracker: Tracker,
        progress: Counter,
    ) -> None:
        self.waiting = list(packs)[::-1]
        self.directory = directory
        self.device = device
        self.tracker = tracker
        self.progress = progress
        self.lost: dict[str, int] = {}
        self.resumed: set[str] = set()
        self.failed: dict[str, str] = {}
        self.stopped = False
        # Sinks are told by one thread at a time.
        self.telling = threading.RLock()

    def through(self, trainer: Trainer) -> None:
        """Trains pack after pack until none is left."""
        while not self.stopped and (pack := self._next()) is not None:
            try:
                self._complete(pack, trainer)
            except store.StoreError:
                raise
            except LostError as error:
                if self.stopped:
                    return
                self._lose(pack, str(error))
            except Exception as error:
                # A user's model may raise anything.
                self._give_up(pack, one_line(error))
            with self.telling:
                self.progress.end(pack.id)
            # What a pack held, most of all one that did not fit, may hang in cycles.
            gc.collect()

    def _next(self) -> Pack | None:
        with self.telling:
            return self.waiting.pop() if self.waiting else None

    def _checkpoint(self, pack: Pack) -> Checkpoint:
        config = pack.group.config
        ids = [run.id for run in pack.runs]
        like = resume_fingerprint(config.save_weights, self.device)
        return Checkpoint(self.directory, pack.id, ids, config.checkpoint_every, like)

    def _lose(self, pack: Pack, reason: str) -> None:
        """Its process has ended: it is tried again from where it was, a few times."""
        self.lost[pack.id] = self.lost.get(pack.id, 0) + 1
        if self.lost[pack.id] > pack.runs[0].config["executor"]["retries"]:
            self._give_up(pack, reason)
            return
        log.warning("%s; its pack is tried again", reason)
        with self.telling:
            self.tracker.discard([run.id for run in pack.runs])
            self.waiting.append(pack)

    def _give_up(self, pack: Pack, reason: str) -> None:
        """A pack came to nothing: it begins anew, or is halved, or its one run has failed."""
        with self.telling:
            checkpoint = self._checkpoint(pack)
            resumed = pack.id in self.resumed
            self.resumed.discard(pack.id)
            self.tracker.discard([run.id for run in pack.runs])
            checkpoint.remove()
            if resumed:
                log.warning("a pack cannot go on from its checkpoint (%s); begun anew", reason)
                self.waiting.append(pack)
            elif len(pack.runs) > 1:
                log.warning("%d runs could not train together (%s); halved", len(pack.runs), reason)
                self.waiting += halves(pack)[::-1]
            else:
                run = pack.runs[0]
                self.failed[run.label] = reason
                store.write_failure(self.directory, run.id, reason, run.config)
                self.progress.finish(run.id, failed=True)

    def _complete(self, pack: Pack, trainer: Trainer) -> None:
        """Trains a pack from where it was, into all sinks."""
        checkpoint = self._checkpoint(pack)
        with self.telling:
            self.progress.begin(pack.id)
            described = describe(pack)
            hydra_files.write(self.directory, pack.runs)
            for run in pack.runs:
                self.tracker.start(run.id, described[run.id], run.label)
            partway = checkpoint.load()
            if checkpoint.resumed:
                self.resumed.add(pack.id)
            for row in partway.history:
                values = {key: row[key] for key in row if key not in ("run", "step")}
                self.tracker.log(row["run"], row["step"], values)
                self.progress.resume(row["run"], row["step"])
        begun = time.perf_counter() - partway.seconds
        resumption = Resumption(partway.state, checkpoint.due)
        for item in trainer.train(pack, resumption, checkpoint.every):
            if isinstance(item, State):
                spent = time.perf_counter() - begun
                checkpoint.save(replace(partway, state=item, seconds=spent))
            else:
                with self.telling:
                    self._tell(pack.runs[item.member], item, partway)
        # Members train at the same time: a run's share is all that can be said of its own.
        share = (time.perf_counter() - begun) / len(pack.runs)
        ended = partway.ended
        finished = [
            {"run": r.id, **r.choices, **as_columns(r.config), **ended[r.id]} for r in pack.runs
        ]
        with self.telling:
            promised = [(run, described[run.id], ended[run.id]) for run in pack.runs]
            self.tracker.promise(pack.id, promised)
        store.write_pack(self.directory, pack.id, finished, partway.history, share)
        checkpoint.remove()
        with self.telling:
            self.tracker.finish(pack.id)
            for run in pack.runs:
                diverged = ended[run.id]["diverged_step"] is not None
                self.progress.finish(run.id, diverged=diverged)

    def _tell(self, run: Run, item: Start | Row | Summary, partway: Partway) -> None:
        if isinstance(item, Start):
            _save(self.directory, run, "init", item.weights)
        elif isinstance(item, Row):
            partway.history.append({"run": run.id, "step": item.step, **item.values})
            self.tracker.log(run.id, item.step, item.values)
            loss = item.values.get("train/loss")
            self.progress.step(run.id, item.step, loss if isinstance(loss, float) else None)
        else:
            partway.ended[run.id] = {**item.values, **_arithmetic(self.device)}
            if item.weights is not None:
                _save(self.directory, run, "final", item.weights)


def resume_fingerprint(save_weights: str, device: torch.device) -> dict[str, Any]:
    """What two trainings of a pack have to share for one to go on from the other's state."""
    return {"torch": torch.__version__, "device": device.type, "save_weights": save_weights}


def _arithmetic(device: torch.device) -> dict[str, str]:
    """What the last digits of a run's results depend on."""
    precision = torch.get_float32_matmul_precision()
    return {"device": str(device), "torch": torch.__version__, "float32_precision": precision}


def describe(pack: Pack) -> dict[str, Plain]:
    """Each run's configuration, with what a report needs besides to be drawn from W&B alone."""
    layers = [layer.name for layer in pack.group.layers]
    return {
        run.id: {**run.config, "choices": dict(run.choices), "layers": layers} for run in pack.runs
    }


def _save(directory: Path, run: Run, moment: str, weights: Tensors) -> None:
    try:
        save_weights(directory / "runs" / run.id, moment, weights)
    except (OSError, SafetensorError) as error:
        raise store.StoreError(f"dir={directory}: weights cannot be written: {error}") from error
