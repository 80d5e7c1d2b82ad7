"""Runs as W&B holds them, turned back into a store's frames."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from initstudy.config import as_columns
from initstudy.report.data.sources.trust import own_claims
from initstudy.store import Store

log = logging.getLogger(__name__)

# A W&B summary holds the last value of everything that was logged; a store's row does not.
PER_LAYER = ("activation/", "gradient/", "weight/")
NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
OF_THE_STUDY = ("by", "across", "tune", "criterion", "paper", "claims")
LOSSES = ("train/loss", "test/loss")
ALWAYS = {"diverged_step": pl.Int64, "diverged_layer": pl.String}


@dataclass(frozen=True)
class Mirrored:
    """One run as W&B holds it.

    Attributes:
        id: The run's.
        group: The sweep's name.
        config: As it was logged: nested, with `choices` of groups and the model's `layers`.
        summary: Final values.
        history: Rows over steps; values that are not finite may be text.
    """

    id: str
    group: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]


def as_store(runs: Iterable[Mirrored], command: str) -> Store:
    """Frames as `store.load` gives them.

    Args:
        runs: At least one, in the order in which they began.
        command: What draws this report again.
    """
    ordered = list(runs)
    rows = [_row(run) for run in ordered]
    history = [
        {"run": run.id, **_values(row)}
        for run in ordered
        for row in sorted(run.history, key=lambda row: row["step"])
    ]
    first = ordered[0]
    layers = {
        run.config["model"]["_target_"].rsplit(".", 1)[-1]: list(run.config.get("layers", ()))
        for run in ordered
    }
    study: dict[str, Any] = {
        "name": first.group,
        "command": command,
        "layers": {name: found for name, found in layers.items() if found},
        "device": str(rows[0].get("device", "an unknown device")),
        "versions": {"torch": rows[0]["torch"]} if "torch" in rows[0] else {},
        "remote": True,
        **{key: first.config.get(key) for key in OF_THE_STUDY},
    }
    claims = first.config.get("claims") or {}
    study["claims"] = own_claims(claims)
    if foreign := sorted(claims.keys() - own_claims(claims).keys()):
        log.warning("claims left out, since they name code from elsewhere: %s", ", ".join(foreign))
    return Store(_runs(rows), _history(history), study)


def _row(run: Mirrored) -> dict[str, Any]:
    config = {k: v for k, v in run.config.items() if k not in ("choices", "layers", "_wandb")}
    summary = {
        key: _number(value)
        for key, value in run.summary.items()
        if not key.startswith(("_", *PER_LAYER)) and key != "step"
    }
    if summary.get("diverged_step") is not None:
        # A summary cannot hold NaN: wandb makes it null in files, and nothing on a server.
        summary |= {key: math.nan for key in LOSSES if summary.get(key) is None}
    return {"run": run.id, **run.config.get("choices", {}), **as_columns(config), **summary}


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) for key, value in row.items() if not key.startswith("_")}


def _number(value: Any) -> Any:
    if isinstance(value, Mapping):
        # A histogram holds its counts, a summary of several kinds its last value.
        return list(value["values"]) if "values" in value else _number(value.get("last"))
    return NUMBERS.get(value, value) if isinstance(value, str) else value


def _runs(rows: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    missing = [
        pl.lit(None, kind).alias(name) for name, kind in ALWAYS.items() if name not in frame.columns
    ]
    # JSON writes a float without a fraction as an integer.
    measured = [c for c in frame.columns if "/" in c and frame[c].dtype.is_integer()]
    return frame.with_columns(pl.col(measured).cast(pl.Float64), *missing)


def _history(rows: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    whole = [c for c in frame.columns if c != "step" and frame[c].dtype.is_integer()]
    return frame.with_columns(pl.col(whole).cast(pl.Float64), pl.col("step").cast(pl.Int64))
