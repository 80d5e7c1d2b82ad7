"""Which claims of someone else's may be built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from initstudy import claims as ours


def own_claims(claims: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The claims that are built from `initstudy.claims` and nothing else.

    A configuration from a server must not name code to run: not in place of a claim, and not among
    its arguments, which Hydra would build as well.

    Args:
        claims: Configurations by name.
    """
    return {name: claim for name, claim in claims.items() if _is_ours(claim)}


def _is_ours(claim: Mapping[str, Any]) -> bool:
    package, _, name = str(claim.get("_target_", "")).rpartition(".")
    arguments = {key: value for key, value in claim.items() if key != "_target_"}
    if package != ours.__name__ or name not in ours.__all__:
        return False
    return "_target_" not in json.dumps(arguments) and hasattr(getattr(ours, name), "check")
