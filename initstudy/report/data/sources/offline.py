"""A folder of offline W&B runs, read by wandb's own reader (`wandb leet inspect --json`)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from initstudy.report.data.sources.mirrored import Mirrored, as_store
from initstudy.store import Store, StoreError


def files(folder: Path) -> list[Path]:
    """The runs' files in a folder such as `runs/std_grid/wandb`, in the order of their start."""
    return sorted(folder.glob("*run-*/run-*.wandb"))


def read(folder: Path) -> Store:
    """The finished runs in a folder of offline W&B runs.

    Raises:
        StoreError: None of them is a finished run of a study, or one cannot be read.
    """
    written = files(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [run for run in pool.map(_run, written) if run is not None]
    if not runs:
        raise StoreError(
            f"{folder}: {len(written)} W&B runs, none of them a finished run of a study"
        )
    # A run that was trained again has the same id; the last one counts.
    latest = {run.id: run for run in runs}
    return as_store(latest.values(), f"python -m initstudy.report {folder}")


def _run(file: Path) -> Mirrored | None:
    """One run, or None if it did not finish or is not one of a study's grid."""
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    about: dict[str, Any] = {}
    history, finished = [], False
    for record in _records(file):
        kind = record["type"]
        part = record.get(kind, {})
        if kind == "run":
            about = part
            config |= part.get("config", {}).get("update", {})
        elif kind == "config":
            config |= part.get("update", {})
        elif kind == "summary":
            # Keys with a dot are the best values, which wandb keeps beside the final ones.
            summary |= {k: v for k, v in part.get("update", {}).items() if "." not in k}
        elif kind == "history":
            history.append(_nested(part["item"]))
        elif kind == "exit":
            finished = True
    if not finished or "model" not in config or not history:
        return None
    return Mirrored(about["run_id"], about.get("run_group", ""), config, summary, history)


def _nested(item: dict[str, Any]) -> dict[str, Any]:
    """A row with its histograms as mappings; the reader writes each field as a key of its own."""
    row: dict[str, Any] = {}
    for key, value in item.items():
        name, dot, part = key.rpartition(".")
        if dot and "/" in name:
            row.setdefault(name, {})[part] = value
        else:
            row[key] = value
    return row


def _records(file: Path) -> Iterator[dict[str, Any]]:
    from wandb.util import get_core_path

    # The program behind `wandb leet`, without the second that Python takes to start for each run.
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[0]
        raise StoreError(f"{file}: wandb cannot read it: {reason}")
    for line in done.stdout.splitlines():
        yield json.loads(line)
