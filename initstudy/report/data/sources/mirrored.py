"""Runs as W&B holds them, turned back into a store's tables."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initstudy.columns import DIVERGED_STEP, LOSS, RUN, SCHEMA, STEP, Schema
from initstudy.config import as_columns
from initstudy.report.data.sources.trust import own_claims
from initstudy.store import Store
from initstudy.store.tables import (
    history_table,
    runs_table,
    with_whole_numbers,
    without_empty,
)

log = logging.getLogger(__name__)

NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Keys of a run's configuration that describe its study.
OF_THE_STUDY = (
    "by",
    "across",
    "tune",
    "criterion",
    "paper",
    "claims",
)
# What is logged beside the configuration.
BESIDE = ("choices", "swept", "layers", "schema", "repository", "_wandb")


@dataclass(frozen=True)
class Mirrored:
    """One run as W&B holds it.

    Attributes:
        id: The run's id.
        group: The study's name.
        config: The configuration as it was logged: nested, with the `choices` of groups, the keys
            that the study had `swept`, the model's `layers` and the `schema` of what is measured.
        summary: The final values.
        history: One mapping per step; values that are not finite may be text.
    """

    id: str
    group: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]


def as_store(runs: Iterable[Mirrored], command: str) -> Store:
    """The tables of some runs, as `store.load` gives them.

    Args:
        runs: At least one run, in the order in which they began.
        command: The command that draws this report again.
    """
    ordered = list(runs)
    rows = [_row(run) for run in ordered]
    history = [
        {RUN.name: run.id, **_values(row)}
        for run in ordered
        for row in sorted(run.history, key=lambda row: row[STEP.name])
    ]
    first = ordered[0]
    layers = {
        run.config["model"]["_target_"].rsplit(".", 1)[-1]: list(run.config.get("layers", ()))
        for run in ordered
    }
    study: dict[str, Any] = {
        "name": first.group,
        "command": command,
        "layers": {name: names for name, names in layers.items() if names},
        "device": str(rows[0].get("device", "an unknown device")),
        "versions": {"torch": rows[0]["torch"]} if "torch" in rows[0] else {},
        "remote": True,
        "repository": ordered[-1].config.get("repository"),
        "swept": list(dict.fromkeys(k for run in ordered for k in run.config.get("swept", ()))),
        **{key: first.config.get(key) for key in OF_THE_STUDY},
        **(first.config.get("schema") or {}),
    }
    claims = first.config.get("claims") or {}
    study["claims"] = own_claims(claims)
    if foreign := sorted(claims.keys() - own_claims(claims).keys()):
        log.warning("claims left out, since they name code from elsewhere: %s", ", ".join(foreign))
    summaries = with_whole_numbers(without_empty(runs_table(rows)))
    return Store(summaries, without_empty(history_table(history)), study)


def _row(run: Mirrored) -> dict[str, Any]:
    """A run's summary as a store has it.

    A summary of W&B holds the last value of everything that was logged, also of the history.
    """
    config = {k: v for k, v in run.config.items() if k not in BESIDE}
    summary = {
        key: _number(value)
        for key, value in run.summary.items()
        if not key.startswith("_") and not _is_of_history(key)
    }
    if summary.get(DIVERGED_STEP.name) is not None:
        # A summary cannot hold NaN: wandb makes it null in files, and leaves it out on a server.
        schema = Schema.described(run.config.get("schema") or {})
        losses = [LOSS.column(split).name for split in schema.splits]
        summary |= {name: math.nan for name in losses if summary.get(name) is None}
    return {RUN.name: run.id, **run.config.get("choices", {}), **as_columns(config), **summary}


def _is_of_history(name: str) -> bool:
    column = SCHEMA.find(name)
    return column is not None and not column.summary


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) for key, value in row.items() if not key.startswith("_")}


def _number(value: Any) -> Any:
    """A value as it was logged."""
    if isinstance(value, Mapping):
        # A histogram holds its counts, a summary of several kinds its last value.
        return list(value["values"]) if "values" in value else _number(value.get("last"))
    return NUMBERS.get(value, value) if isinstance(value, str) else value
