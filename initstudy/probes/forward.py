"""Running a model so that every module's hooks see its output, and transforms can batch it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = dict[str, Tensor]


@contextmanager
def as_written(recurrent: bool = False) -> Iterator[None]:
    """Attention, and where asked for recurrent layers, in basic operations.

    The fused kernels that torch has for them have no batching rule, and attention's of evaluation
    mode runs none of the hooks below it.
    """
    mkldnn: Any = torch.backends.mkldnn
    cudnn: Any = torch.backends.cudnn
    mha = torch.backends.mha
    before = mkldnn.enabled, cudnn.enabled, mha.get_fastpath_enabled()
    # Convolutions need both libraries; they are switched off for recurrent models alone.
    mkldnn.enabled, cudnn.enabled = (on and not recurrent for on in before[:2])
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mkldnn.enabled, cudnn.enabled = before[:2]
        mha.set_fastpath_enabled(before[2])


def first_tensor(output: object) -> Tensor:
    """The tensor of a module's output.

    Recurrent layers return theirs first in a nested tuple, `(output, (h_n, c_n))`, and attention
    returns `(output, None)` where nobody needs its weights.

    Raises:
        TypeError: There is none.
    """
    first = output[0] if isinstance(output, tuple) else output
    if not isinstance(first, Tensor):
        raise TypeError(f"a module returned {type(output).__name__}, which starts with no tensor")
    return first
