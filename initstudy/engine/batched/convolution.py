"""Convolutions and pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched.stage import Stage, Tensors

_ops = torch.ops.aten
# The member is the major part of the channels: member 0's channels, then member 1's, and so on.
Images = Float[Tensor, "batch channels h w"]


class Conv2d(Stage):
    """`nn.Conv2d` on images: one convolution, with a group for each distinct input.

    Args:
        name: The module's name.
        module: The layer, with zeros for padding and no groups of its own.
        padding: Zeros at each end of height and width.
    """

    def __init__(self, name: str, module: nn.Conv2d, padding: tuple[int, int]) -> None:
        super().__init__(name)
        self.stride, self.dilation, self.padding = module.stride, module.dilation, padding
        self.inputs = module.in_channels
        self.weight = f"{name}.weight"
        self.bias = f"{name}.bias" if module.bias is not None else None
        self.parameters = (self.weight, self.bias) if self.bias else (self.weight,)

    def forward(self, x: Images, tensors: Tensors) -> Images:
        """The images of all members."""
        self.x = x
        self.groups = x.shape[1] // self.inputs
        self.kernels = tensors[self.weight].flatten(0, 1)
        bias = None if self.bias is None else tensors[self.bias].flatten()
        y = F.conv2d(x, self.kernels, bias, self.stride, self.padding, self.dilation, self.groups)
        return y.contiguous(memory_format=torch.channels_last)

    def backward(
        self, grad: Tensor, tensors: Tensors, grads: Tensors, first: bool
    ) -> Tensor | None:
        """One backward convolution by weight and input, or by the weight alone."""
        dx, dw, db = _ops.convolution_backward(
            grad,
            self.x,
            self.kernels,
            [len(self.kernels)],
            list(self.stride),
            list(self.padding),
            list(self.dilation),
            False,
            [0, 0],
            self.groups,
            [not first, True, self.bias is not None],
        )
        grads[self.weight].copy_(dw.view_as(tensors[self.weight]))
        if self.bias is not None:
            grads[self.bias].copy_(db.view_as(tensors[self.bias]))
        return None if first else dx.contiguous(memory_format=torch.channels_last)


class PatchesConv2d(Conv2d):
    """A convolution of the data itself: a matrix product with its patches.

    With few channels a patch is short, members that share data share its patches, and nobody needs
    the gradient by them; that is several times as fast as a convolution.
    """

    def forward(self, x: Images, tensors: Tensors) -> Images:
        """The images of all members."""
        weight = tensors[self.weight]
        members, out = weight.shape[:2]
        self.groups = x.shape[1] // self.inputs
        padded = F.pad(x, [self.padding[1]] * 2 + [self.padding[0]] * 2)
        windows = padded.unfold(2, weight.shape[3], self.stride[0])
        windows = windows.unfold(3, weight.shape[4], self.stride[1])
        size = windows.shape[:1] + windows.shape[2:4]
        self.patches = self._gather(windows.permute(1, 4, 5, 0, 2, 3))
        y = x.new_empty(size.numel(), members * out)
        kernels = weight.flatten(2)
        if self.bias is not None:
            kernels = torch.cat([kernels, tensors[self.bias][..., None]], 2)
        for patches, kernel, target in zip(
            self.patches, kernels.flatten(0, 1).chunk(self.groups), self._split(y), strict=True
        ):
            torch.mm(patches.T, kernel.T, out=target)
        return y.view(*size, -1).permute(0, 3, 1, 2)

    def backward(
        self, grad: Tensor, tensors: Tensors, grads: Tensors, first: bool
    ) -> Tensor | None:
        """The gradients by the parameters alone."""
        weight = tensors[self.weight]
        flat = grad.permute(0, 2, 3, 1).flatten(0, 2)
        by_kernel = [
            torch.mm(patches, part)
            for patches, part in zip(self.patches, self._split(flat), strict=True)
        ]
        rows = torch.cat(by_kernel, 1).T
        entries = weight[0, 0].numel()
        grads[self.weight].view(rows.shape[0], entries).copy_(rows[:, :entries])
        if self.bias is not None:
            grads[self.bias].view(-1).copy_(rows[:, entries])
        return None

    def _gather(self, windows: Float[Tensor, "channels kh kw batch h w"]) -> Tensor:
        """The patches of each group, as columns; with a bias also a row of ones for it."""
        patches = windows.unflatten(0, (self.groups, -1))
        entries, places = patches[0, ..., 0, 0, 0].numel(), windows[0, 0, 0].numel()
        if self.bias is None:
            return patches.reshape(self.groups, entries, places)
        gathered = windows.new_ones(self.groups, entries + 1, places)
        gathered[:, :entries].unflatten(1, patches.shape[1:4]).unflatten(
            4, patches.shape[4:]
        ).copy_(patches)
        return gathered

    def _split(self, flat: Float[Tensor, "places channels"]) -> tuple[Tensor, ...]:
        """The channels of each group."""
        return flat.chunk(self.groups, 1)


class MaxPool2d(Stage):
    """`nn.MaxPool2d` on images: a window never spans two channels, so nor two members.

    Args:
        name: The module's name.
        module: The layer.
    """

    def __init__(self, name: str, module: nn.MaxPool2d) -> None:
        super().__init__(name)
        stride = module.stride if module.stride is not None else module.kernel_size
        windows = module.kernel_size, stride, module.padding, module.dilation
        self.windows = (*map(_pair, windows), module.ceil_mode)

    def forward(self, x: Images, tensors: Tensors) -> Images:
        """The largest value of each window."""
        self.x = x
        y, self.places = _ops.max_pool2d_with_indices(x, *self.windows)
        return y

    def backward(
        self, grad: Tensor, tensors: Tensors, grads: Tensors, first: bool
    ) -> Tensor | None:
        """The gradient goes to where the largest value was."""
        if first:
            return None
        return _ops.max_pool2d_with_indices_backward(grad, self.x, *self.windows, self.places)


class AvgPool2d(Stage):
    """`nn.AvgPool2d` on images.

    Args:
        name: The module's name.
        module: The layer.
    """

    def __init__(self, name: str, module: nn.AvgPool2d) -> None:
        super().__init__(name)
        windows = module.kernel_size, module.stride, module.padding
        self.windows = (
            *map(_pair, windows),
            module.ceil_mode,
            module.count_include_pad,
            module.divisor_override,
        )

    def forward(self, x: Images, tensors: Tensors) -> Images:
        """The mean of each window."""
        self.x = x
        return _ops.avg_pool2d(x, *self.windows)

    def backward(
        self, grad: Tensor, tensors: Tensors, grads: Tensors, first: bool
    ) -> Tensor | None:
        """An equal share of the gradient for every value of a window."""
        return None if first else _ops.avg_pool2d_backward(grad, self.x, *self.windows)


def _pair(size: int | tuple[int, int]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
