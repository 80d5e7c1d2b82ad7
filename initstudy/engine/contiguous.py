"""Tensors side by side in one buffer, for kernels that take all of their values at once.

Every tensor begins at a multiple of 16 values, and the buffer ends at one. A CPU's vector loop then
never has a remainder, which it would add up in another order than full registers: without the
padding, `torch.optim.SGD(fused=True)` on a parameter of 17 values and on the same parameter beside
another one differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Shaped
from torch import Tensor

ALIGNMENT = 16


def side_by_side(like: Sequence[Tensor]) -> list[Tensor]:
    """Zeros in the shapes of some tensors, as views of one buffer.

    Args:
        like: Tensors on one device. Tensors of several dtypes each get memory of their own.
    """
    if len({tensor.dtype for tensor in like}) > 1:
        return [torch.zeros_like(tensor) for tensor in like]
    *starts, end = accumulate((_padded(tensor.numel()) for tensor in like), initial=0)
    buffer = torch.zeros(end, dtype=like[0].dtype, device=like[0].device)
    return [
        buffer[start : start + tensor.numel()].view(tensor.shape)
        for start, tensor in zip(starts, like, strict=True)
    ]


def contiguous_buffer(tensors: Sequence[Tensor]) -> Shaped[Tensor, " values"] | None:
    """The buffer of which these tensors are the views, padding included.

    Returns:
        None if they are not all the tensors of one call of `side_by_side`, in its order.
    """
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
