"""Trains finished runs again and compares every value with the store.

Whole packs are trained again, since a run's last bits may depend on how many runs train with it.
What the store has of the chosen runs is compared to the last bit: every value of the history and
of the summary. Nothing is written.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from initstudy import store
from initstudy.config import Run, identity
from initstudy.engine.train import Row, Summary
from initstudy.training import factory
from initstudy.training.group import Pack, prepare
from initstudy.training.identity import changed_since
from initstudy.training.pack import train_pack


def choose(results: store.Store, count: int, seed: int) -> list[str]:
    """The ids of some finished runs, drawn at random."""
    ids = sorted(results.runs["run"].to_list())
    return random.Random(seed).sample(ids, min(count, len(ids)))


def compare(
    path: Path, results: store.Store, chosen: list[str]
) -> Iterator[tuple[str, str | None]]:
    """Trains runs again.

    Args:
        path: The study's directory.
        results: What is in it.
        chosen: The ids of the runs.

    Yields:
        Each run's id, and the first value that differs, with both values, or None.

    Raises:
        ConfigError: A run cannot be built any more.
        StoreError: Its configuration or its pack cannot be read.
    """
    while chosen:
        members = next(ids for ids in store.packs(path).values() if chosen[0] in ids)
        row = results.runs.row(by_predicate=pl.col("run") == chosen[0], named=True)
        retrained = [_run(path, run) for run in members]
        if changed := {name for run in retrained for name in changed_since(run)}:
            for run in [run for run in chosen if run in members]:
                yield run, f"{' and '.join(sorted(changed))} changed since it was trained"
            chosen = [run for run in chosen if run not in members]
            continue
        history, ends = _retrain(retrained, factory.device(row["device"]))
        for run in [run for run in chosen if run in members]:
            stored = results.runs.filter(run=run).to_dicts()[0]
            rows = results.history.filter(run=run).sort("step").to_dicts()
            yield run, _difference(stored, rows, ends[run], history[run])
        chosen = [run for run in chosen if run not in members]


def _run(path: Path, run: str) -> Run:
    file = path / "runs" / run / ".hydra" / "config.yaml"
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise store.StoreError(f"{file}: cannot be read: {error}") from error
    if identity(config) != run:
        raise store.StoreError(f"{file}: is not the configuration of run {run}")
    return Run(config, (), run)


def _retrain(
    runs: Sequence[Run], device: torch.device
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    (group,) = prepare(runs, device)
    pack = Pack(group, tuple(runs))
    history: dict[str, list[dict[str, Any]]] = {run.id: [] for run in pack.runs}
    ends: dict[str, dict[str, Any]] = {}
    for item in train_pack(pack, device):
        if isinstance(item, Row):
            run = pack.runs[item.member].id
            history[run].append({"run": run, "step": item.step, **item.values})
        elif isinstance(item, Summary):
            ends[pack.runs[item.member].id] = item.values
    return history, ends


def _difference(
    stored: dict[str, Any],
    rows: list[dict[str, Any]],
    ends: dict[str, Any],
    now: list[dict[str, Any]],
) -> str | None:
    """The first value that differs, with both."""
    if [row["step"] for row in rows] != [row["step"] for row in now]:
        return f"{len(rows)} rows in the store, {len(now)} now, or at other steps"
    pairs = [(f"step {old['step']}: ", old, new) for old, new in zip(rows, now, strict=True)]
    for where, old, new in (*pairs, ("", stored, ends)):
        for key, value in new.items():
            if not _same(old.get(key), value):
                return f"{where}{key} is {old.get(key)!r} in the store and {value!r} now"
    return None


def _same(one: Any, other: Any) -> bool:
    """Equality in which NaN is itself."""
    return one == other or (one != one and other != other)
