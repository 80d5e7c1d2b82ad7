"""Stores of made-up sweeps whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from initstudy import store as stores
from initstudy.columns import HISTOGRAM_EDGES
from initstudy.store import Store

STDS = np.geomspace(0.001, 4, 14)
LAYERS = ("fc1", "fc2", "fc3", "head")
CLAIMS = {
    "hurts": {
        "_target_": "initstudy.claims.WorseThanBest",
        "statement": "Large is worse.",
    },
    "growth": {
        "_target_": "initstudy.claims.SignalGrowth",
        "statement": "It grows & <shrinks>.",
    },
}


def save(store, path):
    """Writes a store to disk, as a sweep does."""
    stores.write_pack(path, "p", store.runs.to_dicts(), store.history.to_dicts())
    stores.write_study(path, store.study)
    return path


def sweep(
    accuracy=lambda std: 0.95 if 0.01 < std < 0.5 else 0.1,
    diverges=lambda std: std > 1,
    stds=STDS,
    seeds=3,
    models=("MLP",),
    noise=0.01,
    by="init.std",
    probes=True,
    histograms=False,
) -> Store:
    """A sweep with an accuracy for each std.

    Activations grow by std·4 a layer, and tenfold in 20 steps.
    """
    rng = np.random.default_rng(0)
    runs, history = [], []
    for model in models:
        for std in stds:
            for seed in range(seeds):
                run = f"{model}{seed}{len(runs):08d}"[:12]
                lost = diverges(std)
                value = float(np.clip(accuracy(std) + noise * rng.standard_normal(), 0, 1))
                runs.append(
                    {
                        "run": run,
                        "init._target_": "x.Normal",
                        "init.std": float(std),
                        "seed": seed,
                        "model._target_": f"initstudy.models.{model}",
                        "model.width": 32,
                        "model.activation": "relu",
                        "data.name": "digits",
                        "optimizer.name": "sgd",
                        "optimizer.lr": 0.02,
                        "batch_size": 32,
                        "train/loss": math.nan if lost else 2.3 * (1 - value) + 1e-3,
                        "test/loss": math.inf if lost else 2.5 * (1 - value) + 1e-2,
                        "test/accuracy": value,
                        "diverged_step": 7 if lost else None,
                        "diverged_layer": "fc2" if lost else None,
                    }
                )
                for step in (0, 20, 40):
                    row = {"run": run, "step": 7 if lost and step else step}
                    row["train/loss"] = math.inf if lost and step else 2.3 - step / 40 * value
                    growth = 10 ** (row["step"] / 20)
                    for depth, layer in enumerate(LAYERS if probes else ()):
                        row[f"activation/{layer}/rms"] = (std * 4) ** (depth + 1) * growth
                        row[f"gradient/{layer}/rms"] = (std * 4) ** (4 - depth) * 1e-3
                        row[f"activation/{layer}/dead"] = min(1.0, std / 4)
                        if histograms:
                            # Every value in the octave of its deviation.
                            octave = int(np.searchsorted(HISTOGRAM_EDGES, std)) - 1
                            counts = [0] * (len(HISTOGRAM_EDGES) - 1)
                            counts[octave] = 100
                            row[f"weight/{layer}/histogram"] = counts
                            row[f"activation/{layer}/histogram"] = counts
                    history.append(row)
                    if lost and step:
                        break
    study = {
        "name": "synthetic",
        "command": "python -m initstudy +sweep=x",
        "by": by,
        "claims": CLAIMS,
        "layers": {m: list(LAYERS) for m in models},
        "versions": {"torch": "2"},
        "device": "a test",
    }
    frames = (pl.DataFrame(r, infer_schema_length=None) for r in (runs, history))
    return Store(*frames, study)
