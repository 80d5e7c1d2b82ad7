"""A parameter as the matrices that it holds: one per block, with outputs as rows."""

from __future__ import annotations

import math

from jaxtyping import Inexact
from torch import Tensor

from initstudy.initializers.fans import Fans


def as_kernels(tensor: Tensor, fans: Fans) -> Inexact[Tensor, "blocks out in *kernel"]:
    """The blocks of a parameter, each with its outputs first in any layout.

    Args:
        tensor: The parameter.
        fans: Its fans, which say how many blocks it holds and whether they are transposed.

    Raises:
        ValueError: The tensor has fewer than two dimensions.
    """
    if tensor.dim() < 2:
        raise ValueError(f"needs a tensor of two dimensions or more, not {tuple(tensor.shape)}")
    kernels = tensor.unflatten(0, (fans.blocks, -1))
    return kernels.transpose(1, 2) if fans.transposed else kernels


def from_kernels(kernels: Inexact[Tensor, "blocks out in *kernel"], fans: Fans) -> Tensor:
    """The parameter that holds given blocks; the inverse of `as_kernels`.

    Args:
        kernels: The blocks.
        fans: The parameter's fans.
    """
    return (kernels.transpose(1, 2) if fans.transposed else kernels).flatten(0, 1).contiguous()


def as_matrices(tensor: Tensor, fans: Fans) -> Inexact[Tensor, "blocks out in_kernel"]:
    """The blocks of a parameter as matrices, with a convolution's kernel among the inputs.

    Args:
        tensor: The parameter.
        fans: Its fans, which say how many blocks it holds and whether they are transposed.

    Raises:
        ValueError: The tensor has fewer than two dimensions.
    """
    return as_kernels(tensor, fans).flatten(2)


def as_tensor(
    matrices: Inexact[Tensor, "blocks out in_kernel"], shape: tuple[int, ...], fans: Fans
) -> Tensor:
    """The parameter that holds given matrices; the inverse of `as_matrices`.

    Args:
        matrices: The blocks as matrices.
        shape: The shape of the parameter.
        fans: The parameter's fans.
    """
    kernel = shape[2:]
    kernels = matrices.unflatten(2, (matrices.shape[2] // math.prod(kernel), *kernel))
    return from_kernels(kernels, fans)
