"""Which claims were declared before any run was trained, by the hash of what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

BEFORE = "before any run"
UNKNOWN = "not recorded"


def fingerprint(config: Any) -> str:
    """The hash of everything that the configuration of a claim says, as 16 hexadecimal digits.

    Example:
        >>> fingerprint({"_target_": "initstudy.claims.Better", "than": "he"})
        '78898cb0bebba843'
    """
    text = json.dumps(config, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def declare(
    recorded: Mapping[str, Any], claims: Mapping[str, Any], finished: int
) -> dict[str, dict[str, Any]]:
    """The record of when each claim was declared, to be written before the training goes on.

    Args:
        recorded: What an earlier command has recorded.
        claims: The claims as they are now.
        finished: How many runs of the study are trained.

    Returns:
        For each claim its hash and `after`, the number of runs that were trained when it first read
        so. A claim that was dropped stays in the record.

    Example:
        >>> first = declare({}, {"a": {"limit": 1}}, finished=0)
        >>> declare(first, {"a": {"limit": 1}, "b": {}}, finished=9)["b"]["after"]
        9
        >>> said({"declared": declare(first, {"a": {"limit": 2}}, finished=9)}, "a", {"limit": 2})
        'changed after 9 runs'
    """
    record = {name: dict(entry) for name, entry in recorded.items()}
    for name, config in claims.items():
        found = fingerprint(config)
        before = record.get(name)
        if before is None or before["hash"] != found:
            changed = before is not None and finished > 0
            record[name] = {"hash": found, "after": finished} | (
                {"changed": True} if changed else {}
            )
    return record


def said(about: Mapping[str, Any], name: str, config: Any) -> str:
    """When a claim was declared, in words.

    Args:
        about: The study's description.
        name: The claim's name.
        config: What it says now.
    """
    entry = about.get("declared", {}).get(name)
    if entry is None:
        return UNKNOWN
    if entry["hash"] != fingerprint(config):
        return "changed since it was declared"
    if entry["after"] == 0:
        return BEFORE
    return f"{'changed' if entry.get('changed') else 'added'} after {entry['after']} runs"
