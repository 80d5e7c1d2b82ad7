"""The libraries that multiply matrices in compiled code, on one thread."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from threadpoolctl import LibController, ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps matrix products on the thread that calls them, for as long as it is open.

    Every thread works on members of its own then, and no product takes threads from another.
    """
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
def _libraries() -> list[LibController]:
    """The BLAS of SciPy, which compiled code calls, and that of NumPy; torch keeps its own."""
    # This loads SciPy's.
    import scipy.linalg.cython_blas  # noqa: F401

    of_torch = Path(torch.__file__).parent
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [lib for lib in libraries if not Path(lib.filepath).is_relative_to(of_torch)]
