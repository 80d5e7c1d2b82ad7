"""Compiling, once on a machine and for each change of the sources."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from initstudy.runtime.files import cache

log = logging.getLogger(__name__)

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
# What the others call; they compile it as a part of themselves.
part = numba.njit(**_OPTIONS)
# Likewise, where sums may be taken in another order, which lets them run side by side in registers.
part_with_sums = numba.njit(**_OPTIONS, fastmath={"reassoc"})


def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles what Python calls, and keeps the code in the user's cache for the next process.

    Numba would look for changes in the function's own file alone, and not in what it calls.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    config: Any = numba.config
    before = config.CACHE_DIR
    folder = cache() / f"compiled-{digest[:12]}"
    if not folder.exists():
        log.info("compiling the training step of linear layers, once on this machine")
    config.CACHE_DIR = str(folder)
    try:
        return numba.njit(**_OPTIONS, cache=True)(function)
    except RuntimeError as error:
        log.info("compiled code cannot be kept: %s", error)
        return part(function)
    finally:
        config.CACHE_DIR = before
