"""Writes down what happens to packs: the one place from which results leave the training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl
import torch
from safetensors import SafetensorError

from initstudy import store
from initstudy.config import Plain, Run, as_columns
from initstudy.engine.stack import Tensors
from initstudy.engine.train import Row, Summary, Value
from initstudy.runtime.repository import revision
from initstudy.scheduling.backends.contract import (
    Checkpointed,
    Event,
    Finished,
    Lost,
    Started,
)
from initstudy.store import hydra_files
from initstudy.store.weights import save_weights
from initstudy.tracking import Tracker
from initstudy.training import checkpoints
from initstudy.training.checkpoints import Partway
from initstudy.training.group import Pack
from initstudy.training.pack import Start


class Sink(Protocol):
    """What hears how far runs are: the progress on the screen, or the messages of a job."""

    def begin(self, pack: str) -> None:
        """A pack begins to train."""

    def end(self, pack: str) -> None:
        """A pack trains no longer, for whatever reason."""

    def step(self, run: str, step: int, loss: float | None = None) -> None:
        """A run has done so many steps in all, with this training loss if it is known."""

    def resume(self, run: str, step: int) -> None:
        """A run goes on after so many steps, which were trained before."""

    def finish(self, run: str, *, diverged: bool = False, failed: bool = False) -> None:
        """A run is over."""

    def say(self, line: str) -> None:
        """The user is to read a line."""


@dataclass
class _Recording:
    """A pack whose results come as events.

    Attributes:
        partway: How far it has come.
        described: What W&B shows of the configuration of each run, by run id.
        begun: When it would have begun if it had trained without a break, by `time.perf_counter`.
    """

    partway: Partway
    described: dict[str, Plain]
    begun: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.begun -= self.partway.seconds

    @property
    def seconds(self) -> float:
        """The seconds that the training has taken so far."""
        return time.perf_counter() - self.begun


class Recorder:
    """Writes store, checkpoints, weights, Hydra's folders, tracker and progress.

    Args:
        directory: The directory of the study.
        device: The device on which packs train, as far as their checkpoints depend on it.
        tracker: What mirrors the rows, such as W&B.
        progress: What hears how far runs are.

    Attributes:
        stored: The ids of the packs that it has written to the store.
    """

    def __init__(
        self, directory: Path, device: torch.device, tracker: Tracker, progress: Sink
    ) -> None:
        self.directory = directory
        self.device = device
        self.tracker = tracker
        self.progress = progress
        self.stored: list[str] = []
        self._recordings: dict[str, _Recording] = {}
        # Packs that train, but record their results themselves.
        self._watched: set[str] = set()

    def record(self, pack: Pack, event: Event) -> None:
        """Writes down what an event says.

        Raises:
            StoreError: The directory of the study cannot be written.
        """
        match event:
            case Started():
                self._start(pack, event)
            case Start():
                self._save(pack.runs[event.member], "init", event.weights)
            case Row():
                self._row(pack, event)
            case Summary():
                self._summarize(pack, event)
            case Checkpointed():
                recording = self._recordings[pack.id]
                recording.partway.state = event.state
                recording.partway.seconds = recording.seconds
                checkpoints.save(self.directory, pack, recording.partway, self.device)
            case Finished(stored=None):
                self._store(pack)
            case Finished():
                self._take_in(pack, event)
            case Lost():
                self._discard(pack)

    def remove_checkpoint(self, pack: Pack) -> None:
        """Makes a pack begin anew when it trains again.

        Raises:
            StoreError: The checkpoint cannot be removed.
        """
        checkpoints.remove(self.directory, pack.id)

    def fail(self, run: Run, reason: str) -> None:
        """Records a run that cannot be trained.

        Raises:
            StoreError: The directory of the study cannot be written.
        """
        store.write_failure(self.directory, run.id, reason, run.config)
        self.progress.finish(run.id, failed=True)

    def _start(self, pack: Pack, started: Started) -> None:
        self.progress.begin(pack.id)
        for run_id, step in started.steps.items():
            self.progress.resume(run_id, step)
        if started.partway is None:
            self._watched.add(pack.id)
            return
        recording = _Recording(started.partway, describe(pack))
        self._recordings[pack.id] = recording
        hydra_files.write(self.directory, pack.runs)
        for run in pack.runs:
            self.tracker.start(run.id, recording.described[run.id], run.label)
        for row in started.partway.history:
            values = {key: row[key] for key in row if key not in ("run", "step")}
            self.tracker.log(row["run"], row["step"], values)

    def _row(self, pack: Pack, row: Row) -> None:
        run = pack.runs[row.member].id
        values = _canonical(row.values)
        if pack.id in self._recordings:
            history = self._recordings[pack.id].partway.history
            history.append({"run": run, "step": row.step, **values})
            self.tracker.log(run, row.step, values)
        loss = values.get("train/loss")
        self.progress.step(run, row.step, loss if isinstance(loss, float) else None)

    def _summarize(self, pack: Pack, summary: Summary) -> None:
        run = pack.runs[summary.member]
        self._recordings[pack.id].partway.ended[run.id] = _canonical(summary.values)
        if summary.weights is not None:
            self._save(run, "final", summary.weights)

    def _store(self, pack: Pack) -> None:
        recording = self._recordings.pop(pack.id)
        partway, described = recording.partway, recording.described
        # Members train at the same time: an equal part is all that can be said of one of them.
        seconds = recording.seconds / len(pack.runs)
        rows = [
            {"run": run.id, **run.choices, **as_columns(run.config), **partway.ended[run.id]}
            for run in pack.runs
        ]
        # Promised before the store has it, so that a kill in between leaves none unsent.
        promised = [(run, described[run.id], partway.ended[run.id]) for run in pack.runs]
        self.tracker.promise(pack.id, promised)
        store.write_pack(self.directory, pack.id, rows, partway.history, seconds)
        checkpoints.remove(self.directory, pack.id)
        self.stored.append(pack.id)
        self.tracker.finish(pack.id)
        for run in pack.runs:
            diverged = partway.ended[run.id]["diverged_step"] is not None
            self.progress.finish(run.id, diverged=diverged)
        self.progress.end(pack.id)

    def _take_in(self, pack: Pack, finished: Finished) -> None:
        """Mirrors a pack whose worker has written it to the store, perhaps in parts."""
        # What trained while nobody watched says nothing of the speed.
        tell = self.progress.step if pack.id in self._watched else self.progress.resume
        self._watched.discard(pack.id)
        runs, described = {run.id: run for run in pack.runs}, describe(pack)
        for part in finished.stored or ():
            stored = store.read_pack(self.directory, part)
            if stored is None:
                continue
            rows, history = stored
            last = dict(history.group_by("run").agg(pl.col("step").max()).iter_rows())
            promised = []
            for row in rows.iter_rows(named=True):
                run = runs.pop(row["run"])
                configured = {"run", *run.choices, *as_columns(run.config)}
                ended = {key: value for key, value in row.items() if key not in configured}
                promised.append((run, described[run.id], ended))
                tell(run.id, last.get(run.id, 0))
                self.progress.finish(run.id, diverged=row["diverged_step"] is not None)
            self.tracker.promise(part, promised)
            self.tracker.finish(part)
        for run in runs.values():
            self.progress.finish(run.id, failed=True)
        self.progress.end(pack.id)

    def _discard(self, pack: Pack) -> None:
        """What came of a pack that was lost is forgotten, but for its checkpoint."""
        self._recordings.pop(pack.id, None)
        self._watched.discard(pack.id)
        self.tracker.discard([run.id for run in pack.runs])
        self.progress.end(pack.id)

    def _save(self, run: Run, moment: str, weights: Tensors) -> None:
        try:
            save_weights(self.directory / "runs" / run.id, moment, weights)
        except (OSError, SafetensorError) as error:
            raise store.StoreError(
                f"dir={self.directory}: weights cannot be written: {error}"
            ) from error


def describe(pack: Pack) -> dict[str, Plain]:
    """The configuration of each run, with all else that a report from W&B alone needs."""
    layers = [layer.name for layer in pack.group.layers]
    schema = pack.group.schema.description()
    repository = revision(Path.cwd())
    return {
        run.id: {
            **run.config,
            "choices": dict(run.choices),
            "swept": list(run.swept),
            "layers": layers,
            "schema": schema,
            "repository": repository,
        }
        for run in pack.runs
    }


def _canonical(values: Mapping[str, Value]) -> dict[str, Value]:
    """The values with every NaN as the same NaN.

    A NaN has a sign and a payload, which depend on the instruction that made it, and which JSON
    does not keep: without this, a run that goes on from a checkpoint would differ in those bits.
    """
    return {name: value if value == value else math.nan for name, value in values.items()}
