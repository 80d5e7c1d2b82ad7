"""Which claims may be built that someone else has written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_class

OURS = "initstudy.claims."


def own_claims(claims: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Those that build this package's claims and nothing else: a server must not name code to run.

    Args:
        claims: Configurations by name.
    """
    return {name: claim for name, claim in claims.items() if _is_ours(claim)}


def _is_ours(claim: Mapping[str, Any]) -> bool:
    target = str(claim.get("_target_", ""))
    arguments = {key: value for key, value in claim.items() if key != "_target_"}
    if not target.startswith(OURS) or "_target_" in json.dumps(arguments):
        return False
    try:
        return hasattr(get_class(target), "check")
    except Exception:
        # Hydra raises what importing and looking up raise: then there is nothing to build.
        return False
