"""Stores of made-up sweeps over two keys whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

from initstudy.store import Store
from initstudy.store.frames import Study, prepare


def plane(
    by: tuple[str, list],
    across: tuple[str, list],
    accuracy=lambda by, across, tune: 0.9,
    time=None,
    tune: tuple[str, list] | None = None,
    criterion: float | None = None,
    seeds: int = 8,
    steps: int = 1000,
    noise: float = 0.0,
    diverged=lambda by, across: False,
    more=lambda by, across, seed: {},
    claims: dict | None = None,
) -> Study:
    """A run for each point: its accuracy, and `time(by, across, tune)`, when it gets there.

    `more` gives further columns of a run.
    """
    rng = np.random.default_rng(0)
    runs, history = [], []
    values = tune[1] if tune else [None]
    for b, a, t, seed in itertools.product(by[1], across[1], values, range(seeds)):
        run = f"{len(runs):012d}"
        value = float(np.clip(accuracy(b, a, t) + noise * rng.standard_normal(), 0, 1))
        runs.append(
            {
                "run": run,
                by[0]: b,
                across[0]: a,
                **({tune[0]: t} if tune else {}),
                "seed": seed,
                "init._target_": "x",
                "model._target_": "initstudy.models.MLP",
                "data.name": "digits",
                "optimizer.name": "sgd",
                "batch_size": 32,
                "train/loss": 1 - value,
                "train/accuracy": value,
                "test/accuracy": value,
                "diverged_step": 5 if diverged(b, a) else None,
                **more(b, a, seed),
            }
        )
        when = round(time(b, a, t) * np.exp(noise * rng.standard_normal())) if time else 0
        for step in np.unique([0, 1, min(when, steps), steps]).tolist():
            seen = value if time is None or 0 < when <= step else 0.0
            history.append({"run": run, "step": step, "train/accuracy": seen, "train/loss": 1.0})
    study = {
        "name": "plane",
        "by": by[0],
        "across": across[0],
        "tune": tune[0] if tune else None,
        "criterion": criterion,
        "claims": claims or {},
        "command": "x",
    }
    frames = (pl.DataFrame(rows, infer_schema_length=None) for rows in (runs, history))
    return prepare(Store(*frames, study))
