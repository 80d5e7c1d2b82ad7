"""Runs of a W&B project, read through `wandb.Api`."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from initstudy.report.data.sources.mirrored import Mirrored, as_store
from initstudy.store import Store, StoreError

FORM = "wandb:ENTITY/PROJECT?group=GROUP"
TIMEOUT = 30


def read(address: str) -> Store:
    """The finished runs of a project, or of one group of it.

    Args:
        address: `ENTITY/PROJECT`, with `?group=GROUP` for the runs of one study.

    Raises:
        StoreError: The address is malformed, the server does not answer or refuses, or there is no
            such run.
    """
    path, _, query = address.partition("?")
    given = parse_qs(query)
    group = given.pop("group", [None])[-1]
    if path.count("/") != 1 or not all(path.split("/")) or given:
        raise StoreError(f"wandb:{address}: write it as {FORM}")
    runs, link = _fetch(path, group)
    store = as_store(runs, f"python -m initstudy.report 'wandb:{address}'")
    store.study["wandb"] = link
    return store


def _fetch(path: str, group: str | None) -> tuple[list[Mirrored], str]:
    """The finished runs of a study's grid, and the address of their project's page."""
    import wandb

    filters: dict[str, Any] = {"state": "finished"} | ({"group": group} if group else {})
    source = f"wandb:{path}" + (f"?group={group}" if group else "")
    try:
        api = wandb.Api(timeout=TIMEOUT)
        ours = [run for run in api.runs(path, filters=filters, lazy=False) if _is_ours(run)]
        runs = [run for run in map(_mirrored, ours) if run.history]
    except Exception as error:
        # The client raises whatever its layers raise, all of which is trouble with the server.
        raise StoreError(f"{source}: {_reason(error)}") from error
    if not runs:
        # The client also sees none without the permission to read them.
        which = f" in group {group!r}" if group else ""
        raise StoreError(f"{source}: no finished run of a study{which}; write it as {FORM}")
    return runs, f"{api.settings['base_url'].replace('api.', '', 1).rstrip('/')}/{path}"


def _is_ours(run: Any) -> bool:
    return "model" in run.config and run.job_type != "study"


def _mirrored(run: Any) -> Mirrored:
    history = [*run.scan_history()]
    return Mirrored(run.id, run.group or run.project, run.config, run.summary_metrics, history)


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
