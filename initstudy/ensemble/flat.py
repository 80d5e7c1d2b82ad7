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


def side_by_side(shapes: Sequence[Sequence[int]], like: Tensor) -> list[Tensor]:
    """Zeros of these shapes, as views of one tensor.

    Args:
        shapes: One a tensor.
        like: Has their type and their device.
    """
    sizes = [torch.Size(shape).numel() for shape in shapes]
    *starts, end = accumulate(map(_padded, sizes), initial=0)
    values = torch.zeros(end, dtype=like.dtype, device=like.device)
    return [
        values[start : start + size].view(*shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=True)
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
