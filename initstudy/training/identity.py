"""What a run's configuration does not say of it: the content of its data and the user's own code.

Both are parts of a run's identity, so that a run is trained again when either has changed. They
stand in its configuration under `fingerprints`, and so in the store and in W&B:

    fingerprints.point   the identity of the configuration alone
    fingerprints.data    the content of the data, if the user has made them or a file holds them
    fingerprints.code    the source of each target of the user's own
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from initstudy.config import Run, code_fingerprints, identity
from initstudy.tasks import Data
from initstudy.training import tasks

FINGERPRINTS = "fingerprints"
# Sections whose code can change what a run measures. Claims only read what was measured.
SECTIONS = ("model", "init", "data", "loss", "metrics", "optimizer", "schedule")
# Data of the package's own that depend on more than their arguments.
OUTSIDE = frozenset(
    f"initstudy.tasks.{name}"
    for name in ("image_folder", "npz", "csv", "characters", "image_fit", "regression")
)


def fingerprinted(runs: Sequence[Run]) -> tuple[list[Run], list[Data]]:
    """The runs with the fingerprints of their data and code, and the data that were read for it.

    Whoever keeps the data spares `prepare` from reading them again.

    Args:
        runs: Runs as they were composed.

    Raises:
        ConfigError: The data of a run cannot be read.
    """
    contents: dict[str, Data] = {}
    stamped = []
    for run in runs:
        section = run.config["data"]
        target = section["_target_"]
        own: dict[str, Any] = {}
        if not target.startswith("initstudy.") or target in OUTSIDE:
            source = json.dumps(section, sort_keys=True, default=str)
            if source not in contents:
                contents[source] = tasks.load(section)
            own["data"] = contents[source].fingerprint
        if code := code_fingerprints({key: run.config.get(key) for key in SECTIONS}):
            own["code"] = code
        if not own:
            stamped.append(run)
            continue
        config = {**run.config, FINGERPRINTS: {"point": run.id, **own}}
        stamped.append(replace(run, config=config, id=identity(config)))
    return stamped, list(contents.values())


def changed_since(run: Run) -> list[str]:
    """What has changed since a run was trained: "the data", or targets of the user's own.

    Args:
        run: A run as the store holds it.

    Raises:
        ConfigError: Its data cannot be read.
    """
    recorded = run.config.get(FINGERPRINTS)
    if not recorded:
        return []
    bare = {key: value for key, value in run.config.items() if key != FINGERPRINTS}
    (now,), _ = fingerprinted([replace(run, config=bare, id=recorded["point"])])
    today = now.config.get(FINGERPRINTS, {})
    code = today.get("code", {})
    names = [name for name, digits in recorded.get("code", {}).items() if code.get(name) != digits]
    return [*names, *(["the data"] if recorded.get("data") != today.get("data") else [])]
