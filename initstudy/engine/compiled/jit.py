"""Compiling, once on a machine and for each change of the sources."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from initstudy.runtime.files import cache

log = logging.getLogger(__name__)

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function as a part of those that call it."""
    return _compiled(function)


def part_with_sums(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `part`; sums may be taken in any order, so that they run side by side in registers."""
    return _compiled(function, fastmath={"reassoc"})


def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function that Python calls, and keeps the code on disk for the next process."""
    config: Any = numba.config
    before = config.CACHE_DIR
    kept_in = folder()
    if not kept_in.exists():
        log.info("compiling the training step of linear layers, once on this machine")
    config.CACHE_DIR = str(kept_in)
    try:
        return _compiled(function, cache=True)
    except RuntimeError as error:
        log.info("compiled code cannot be kept: %s", error)
        return part(function)
    finally:
        config.CACHE_DIR = before


def folder() -> Path:
    """The folder of the compiled code, named after all sources of this package.

    Numba would look for changes in a function's own file alone, and not in the files of what it
    calls.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return cache() / f"compiled-{digest[:12]}"


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    # Without decorators: the checks of shapes that tests put around every function do not compile.
    return numba.njit(**_OPTIONS, **options)(inspect.unwrap(function))
