"""Tensors side by side in one piece of memory, for kernels that take all of their values at once.

Each begins at a multiple of 16 values, and the piece ends at one: the widest registers of a CPU
then never hold a rest, whose sums would round otherwise than those of full registers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

ALIGNMENT = 16


def side_by_side(like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros in the shapes of these tensors, as views of one; of several types each is its own."""
    if len({tensor.dtype for tensor in like}) > 1:
        return [torch.zeros_like(tensor) for tensor in like]
    *starts, end = accumulate((_padded(tensor.numel()) for tensor in like), initial=0)
    values = torch.zeros(end, dtype=like[0].dtype, device=like[0].device)
    return [
        values[start : start + tensor.numel()].view(tensor.shape)
        for start, tensor in zip(starts, like, strict=True)
    ]


def whole(tensors: Sequence[Tensor]) -> Tensor | None:
    """The one tensor `[values]` that such tensors are views of; None where they are not."""
    first = tensors[0]
    memory = first.untyped_storage()
    *starts, end = accumulate((_padded(t.numel()) for t in tensors), initial=0)
    for start, tensor in zip(starts, tensors, strict=True):
        elsewhere = tensor.untyped_storage().data_ptr() != memory.data_ptr()
        if elsewhere or tensor.storage_offset() != start or not tensor.is_contiguous():
            return None
    if memory.nbytes() != end * first.element_size():
        return None
    return first.detach().as_strided((end,), (1,), 0)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
