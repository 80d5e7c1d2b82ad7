"""Packs in the middle of their training on disk: safetensors, Parquet and JSON, no code.

    DIR/checkpoints/PACK/state-STEP.safetensors   the tensors of the training
    DIR/checkpoints/PACK/facts-STEP.json          the runs, the numbers, the runs that have ended
    DIR/checkpoints/PACK/history-STEP.parquet     the rows since the checkpoint before this one
    DIR/checkpoints/PACK/sha256                   the sums of all of them; it is renamed last

The last file names the others, so a kill in the middle of a write leaves the checkpoint before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from initstudy.engine.state import State
from initstudy.runtime.files import first_changed, read_sums, sums, write_atomically
from initstudy.store import StoreError
from initstudy.training.group import Pack

FOLDER, SUMS = "checkpoints", "sha256"
Rows = list[dict[str, Any]]


@dataclass
class Partway:
    """How far the training of a pack has come.

    Attributes:
        state: The state of the training; None at its start.
        history: The rows so far, each with `run`, `step` and the values.
        ended: The final values of the runs that have ended, by run id.
        seconds: The seconds that the training has taken so far.
        parts: The files that hold the history on disk.
        saved: The number of rows in those files.
    """

    state: State | None = None
    history: Rows = field(default_factory=list)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    parts: list[Path] = field(default_factory=list)
    saved: int = 0


def fingerprint(save_weights: str, device: torch.device) -> dict[str, str]:
    """What two trainings of a pack must share for one to go on from the state of the other."""
    return {"torch": torch.__version__, "device": device.type, "save_weights": save_weights}


def load(directory: Path, pack: Pack, device: torch.device) -> Partway:
    """How far a pack has come; its start if there is no checkpoint that can be used.

    A checkpoint that is damaged, or that another device or another version of torch has written,
    is removed.

    Args:
        directory: The directory of the study.
        pack: The pack that is about to train.
        device: The device on which it will train.

    Raises:
        StoreError: A useless checkpoint cannot be removed.
    """
    folder = directory / FOLDER / pack.id
    if not exists(directory, pack.id):
        return Partway()
    try:
        files = _verified(folder)
        facts = _facts(files)
        if facts["like"] != fingerprint(pack.group.config.save_weights, device):
            raise ValueError("another kind of training has written it")
        (tensors,) = (load_file(file) for file in files if file.suffix == ".safetensors")
        parts = [file for file in files if file.suffix == ".parquet"]
        frames = [pl.read_parquet(part) for part in parts]
        history = pl.concat(frames, how="diagonal_relaxed").to_dicts() if frames else []
        state = State(facts["step"], tensors, facts["facts"])
        return Partway(state, history, facts["ended"], facts["seconds"], parts, len(history))
    except (OSError, ValueError, KeyError, SafetensorError, pl.exceptions.PolarsError):
        _remove(folder)
        return Partway()


def exists(directory: Path, pack: str) -> bool:
    """Whether there is a checkpoint of a pack, as far as that is seen without reading it."""
    return (directory / FOLDER / pack / SUMS).exists()


def save(directory: Path, pack: Pack, partway: Partway, device: torch.device) -> None:
    """Writes how far a pack has come, and removes what that replaces.

    Args:
        directory: The directory of the study.
        pack: The pack.
        partway: How far it has come, with a state; `parts` and `saved` are brought up to date.
        device: The device on which it trains.

    Raises:
        StoreError: It cannot be written.
    """
    state = partway.state
    assert state is not None
    folder = directory / FOLDER / pack.id
    tensors_file = folder / f"state-{state.step}.safetensors"
    facts_file = folder / f"facts-{state.step}.json"
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.tensors.items()}
    facts = {
        "runs": [run.id for run in pack.runs],
        "like": fingerprint(pack.group.config.save_weights, device),
        "step": state.step,
        "facts": state.facts,
        "ended": partway.ended,
        "seconds": partway.seconds,
    }
    try:
        write_atomically(tensors_file, lambda partial: save_file(tensors, partial))
        write_atomically(facts_file, lambda partial: partial.write_text(json.dumps(facts)))
        if len(partway.history) > partway.saved:
            part = folder / f"history-{state.step}.parquet"
            rows = pl.DataFrame(partway.history[partway.saved :], infer_schema_length=None)
            write_atomically(part, rows.write_parquet)
            partway.parts.append(part)
            partway.saved = len(partway.history)
        files = [tensors_file, facts_file, *partway.parts]
        text = sums({file.name: file for file in files})
        write_atomically(folder / SUMS, lambda partial: partial.write_text(text))
        for file in set(folder.iterdir()) - {*files, folder / SUMS}:
            file.unlink()
    except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"dir={folder}: cannot be written: {error}") from error


def remove(directory: Path, pack: str) -> None:
    """Removes the checkpoint of a pack that is complete, or that will begin anew.

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
    *,
    removing: bool = True,
) -> list[list[str]]:
    """The run ids of each pack that can go on from a checkpoint; useless checkpoints are removed.

    Args:
        directory: The directory of the study.
        missing: The ids of the runs that are to train.
        finished: The ids of the runs that the store has.
        like: The `fingerprint` of the training that is about to begin.
        taken: The ids of packs that jobs may be training now; their checkpoints are left alone.
        removing: Whether to remove useless checkpoints.

    Raises:
        StoreError: A useless checkpoint cannot be removed.
    """
    packs = []
    for folder in sorted((directory / FOLDER).glob("*")):
        if folder.name in taken:
            continue
        try:
            facts = _facts(_verified(folder))
            useless = facts["like"] != dict(like) or not set(facts["runs"]).isdisjoint(finished)
        except (OSError, ValueError, KeyError):
            useless = True
        if useless:
            if removing:
                _remove(folder)
        elif set(facts["runs"]) <= set(missing):
            packs.append(facts["runs"])
    return packs


def _verified(folder: Path) -> list[Path]:
    """The files of a checkpoint, if each of them is as it was written."""
    files = [folder / name for name in read_sums(folder / SUMS)]
    if changed := first_changed(folder / SUMS, files):
        raise ValueError(f"{changed} is damaged")
    return files


def _facts(files: Sequence[Path]) -> dict[str, Any]:
    (file,) = (file for file in files if file.suffix == ".json")
    return json.loads(file.read_text())


def _remove(folder: Path) -> None:
    try:
        # The sums go first: without them a kill in between leaves nothing that counts.
        (folder / SUMS).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(f"dir={folder}: cannot be removed: {error.strerror}") from error
