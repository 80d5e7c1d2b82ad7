"""Packs in the middle of their training on disk: safetensors, Parquet and JSON, no code.

    DIR/checkpoints/PACK/state-STEP.safetensors   tensors of the training
    DIR/checkpoints/PACK/facts-STEP.json          its runs, what is no tensor, what has ended
    DIR/checkpoints/PACK/history-STEP.parquet     the rows since the checkpoint before
    DIR/checkpoints/PACK/sha256                   of all of them; it is renamed last

The last file names the others, so a checkpoint is whole or is the one before.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from initstudy.engine.state import State
from initstudy.runtime.files import first_changed, read_sums, sums, write_atomically
from initstudy.store import StoreError

FOLDER, SUMS = "checkpoints", "sha256"
Rows = list[dict[str, Any]]


@dataclass
class Partway:
    """How far a pack has come.

    Attributes:
        state: Of the training; None at its start.
        history: `run`, `step` and values.
        ended: The final values of runs that are done, by run.
        seconds: Spent so far.
    """

    state: State | None = None
    history: Rows = field(default_factory=list)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0


class Checkpoint:
    """The checkpoint of one pack, written now and then.

    Args:
        directory: The sweep's.
        pack: The pack's id.
        runs: The ids of its runs, in their order.
        every: Seconds between two checkpoints; None for none.
        like: What a training has to have in common with this one to go on from its state.

    Attributes:
        resumed: Whether there was one to go on from.
    """

    def __init__(
        self,
        directory: Path,
        pack: str,
        runs: Sequence[str],
        every: float | None,
        like: Mapping[str, Any],
    ) -> None:
        self.folder = directory / FOLDER / pack
        self.runs = list(runs)
        self.every = every
        self.like = dict(like)
        self.parts: list[Path] = []
        self.rows = 0
        self.resumed = False
        self.written = time.monotonic()

    def due(self) -> bool:
        """Whether the time for one has come."""
        return self.every is not None and time.monotonic() - self.written >= self.every

    def load(self) -> Partway:
        """How far the pack has come; at its start where there is no checkpoint, or a damaged one.

        Raises:
            StoreError: A damaged one cannot be removed.
        """
        if not (self.folder / SUMS).exists():
            return Partway()
        try:
            files = _whole(self.folder)
            facts = _facts(files)
            (tensors,) = (load_file(file) for file in files if file.suffix == ".safetensors")
            self.parts = [file for file in files if file.suffix == ".parquet"]
            frames = [pl.read_parquet(part) for part in self.parts]
            history = pl.concat(frames, how="diagonal_relaxed").to_dicts()
            state = State(facts["step"], tensors, facts["facts"])
            found = Partway(state, history, facts["ended"], facts["seconds"])
        except (OSError, ValueError, KeyError, SafetensorError, pl.exceptions.PolarsError):
            self.remove()
            return Partway()
        self.rows = len(history)
        self.resumed = True
        return found

    def save(self, pack: Partway) -> None:
        """Writes how far the pack has come.

        Raises:
            StoreError: It cannot be written.
        """
        state = pack.state
        assert state is not None
        names = {kind: self.folder / f"{kind}-{state.step}" for kind in ("state", "facts")}
        tensors_file = names["state"].with_suffix(".safetensors")
        facts_file = names["facts"].with_suffix(".json")
        tensors = {name: t.cpu().contiguous() for name, t in state.tensors.items()}
        facts = {
            "runs": self.runs,
            "like": self.like,
            "step": state.step,
            "facts": state.facts,
            "ended": pack.ended,
            "seconds": pack.seconds,
        }
        try:
            write_atomically(tensors_file, lambda partial: save_file(tensors, partial))
            write_atomically(facts_file, lambda partial: partial.write_text(json.dumps(facts)))
            if len(pack.history) > self.rows:
                part = self.folder / f"history-{state.step}.parquet"
                rows = pl.DataFrame(pack.history[self.rows :], infer_schema_length=None)
                write_atomically(part, rows.write_parquet)
                self.parts.append(part)
            files = [tensors_file, facts_file, *self.parts]
            text = sums({file.name: file for file in files})
            write_atomically(self.folder / SUMS, lambda partial: partial.write_text(text))
            for file in set(self.folder.iterdir()) - {*files, self.folder / SUMS}:
                file.unlink()
        except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"dir={self.folder}: cannot be written: {error}") from error
        self.rows = len(pack.history)
        self.written = time.monotonic()

    def remove(self) -> None:
        """The pack is complete, or begins anew.

        Raises:
            StoreError: It cannot be removed.
        """
        self.parts, self.rows = [], 0
        _remove(self.folder)


def remove(directory: Path, pack: str) -> None:
    """Removes the checkpoint of a pack that will not train again as it was.

    Raises:
        StoreError: It cannot be removed.
    """
    _remove(directory / FOLDER / pack)


def find(
    directory: Path,
    missing: Collection[str],
    finished: Collection[str],
    like: Mapping[str, Any],
    taken: Collection[str] = (),
) -> list[list[str]]:
    """The runs of each pack that can go on from a checkpoint. What no pack can use is removed.

    Args:
        directory: The sweep's.
        missing: The runs that are to train.
        finished: The runs that the store has.
        like: What a training has to have in common with the one before; see `Checkpoint`.
        taken: Packs that others may be training now; theirs are left alone.

    Raises:
        StoreError: A useless one cannot be removed.
    """
    found = []
    for folder in sorted((directory / FOLDER).glob("*")):
        if folder.name in taken:
            continue
        try:
            facts = _facts(_whole(folder))
            useless = facts["like"] != dict(like) or not set(facts["runs"]).isdisjoint(finished)
        except (OSError, ValueError, KeyError):
            useless = True
        if useless:
            _remove(folder)
        elif set(facts["runs"]) <= set(missing):
            found.append(facts["runs"])
    return found


def _whole(folder: Path) -> list[Path]:
    """The files of a checkpoint, if every one is as it was written."""
    files = [folder / name for name in read_sums(folder / SUMS)]
    if changed := first_changed(folder / SUMS, files):
        raise ValueError(f"{changed} is damaged")
    return files


def _facts(files: Sequence[Path]) -> dict[str, Any]:
    (file,) = (file for file in files if file.suffix == ".json")
    return json.loads(file.read_text())


def _remove(folder: Path) -> None:
    try:
        # First what makes it count.
        (folder / SUMS).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(f"dir={folder}: cannot be removed: {error.strerror}") from error
