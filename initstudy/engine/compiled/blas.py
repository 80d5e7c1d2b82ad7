"""The library that multiplies matrices in compiled code, on one thread."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """What happens inside has the threads to itself: no product of matrices takes others."""
    before = [(library, library.get_num_threads()) for library in _libraries()]
    others = [(library, threads) for library, threads in before if threads != 1]
    for library, _ in others:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in others:
            library.set_num_threads(threads)


@functools.cache
def _libraries() -> list[Any]:
    """Those of SciPy, which compiled code calls, and of NumPy; torch keeps its own."""
    # SciPy's is loaded with this.
    import scipy.linalg.cython_blas  # noqa: F401

    of_torch = Path(torch.__file__).parent
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if not Path(library.filepath).is_relative_to(of_torch)]
