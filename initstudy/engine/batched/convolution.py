"""Convolutions and pooling.

Images of all members are `[batch, members × channels, height, width]`, the channels of one member
after those of another. Where members share their images, `members` is the number of groups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched.stage import Stage, Tensors

_ops = torch.ops.aten
# What goes into a layer and what comes out of it: both sizes and channels may differ.
Before = Float[Tensor, "batch in_channels in_h in_w"]
After = Float[Tensor, "batch out_channels out_h out_w"]


class Conv2d(Stage):
    """`nn.Conv2d` on images: one convolution, with a group for each distinct input.

    Args:
        name: The module's name.
        module: The layer, with zero padding and without groups of its own.
        padding: The number of zeros at each end of height and of width.
    """

    def __init__(self, name: str, module: nn.Conv2d, padding: tuple[int, int]) -> None:
        super().__init__(name)
        self.stride, self.dilation, self.padding = module.stride, module.dilation, padding
        self.channels = module.in_channels
        self.weight = f"{name}.weight"
        self.bias = f"{name}.bias" if module.bias is not None else None
        self.parameters = (self.weight, self.bias) if self.bias else (self.weight,)

    def forward(self, x: Before, tensors: Tensors) -> After:
        """The images of all members."""
        self.x = x
        self.groups = x.shape[1] // self.channels
        self.kernels = tensors[self.weight].flatten(0, 1)
        bias = None if self.bias is None else tensors[self.bias].flatten()
        y = F.conv2d(x, self.kernels, bias, self.stride, self.padding, self.dilation, self.groups)
        return y.contiguous(memory_format=torch.channels_last)

    def backward(self, grad: After, tensors: Tensors, grads: Tensors, first: bool) -> Before | None:
        """One backward convolution with respect to weight and input, or to the weight alone."""
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

    With few channels a patch is short, members that share data share its patches, and no layer
    needs the gradient with respect to them; that makes it several times as fast as a convolution.
    """

    def forward(self, x: Before, tensors: Tensors) -> After:
        """The images of all members."""
        weight = tensors[self.weight]
        members, out = weight.shape[:2]
        self.groups = x.shape[1] // self.channels
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

    def backward(self, grad: After, tensors: Tensors, grads: Tensors, first: bool) -> Before | None:
        """The gradients with respect to the parameters alone."""
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

    def _gather(
        self, windows: Float[Tensor, "channels kernel_h kernel_w batch out_h out_w"]
    ) -> Float[Tensor, "groups entries positions"]:
        """The patches of each group as columns; with a bias also a row of ones for it."""
        patches = windows.unflatten(0, (self.groups, -1))
        entries, positions = patches[0, ..., 0, 0, 0].numel(), windows[0, 0, 0].numel()
        if self.bias is None:
            return patches.reshape(self.groups, entries, positions)
        gathered = windows.new_ones(self.groups, entries + 1, positions)
        gathered[:, :entries].unflatten(1, patches.shape[1:4]).unflatten(
            4, patches.shape[4:]
        ).copy_(patches)
        return gathered

    def _split(self, flat: Float[Tensor, "positions channels"]) -> tuple[Tensor, ...]:
        """The channels of each group."""
        return flat.chunk(self.groups, 1)


class MaxPool2d(Stage):
    """`nn.MaxPool2d` on images: no window spans two channels, and so none spans two members.

    Args:
        name: The module's name.
        module: The layer.
    """

    def __init__(self, name: str, module: nn.MaxPool2d) -> None:
        super().__init__(name)
        stride = module.stride if module.stride is not None else module.kernel_size
        windows = module.kernel_size, stride, module.padding, module.dilation
        self.windows = (*map(_pair, windows), module.ceil_mode)

    def forward(self, x: Before, tensors: Tensors) -> After:
        """The largest value of each window."""
        self.x = x
        y, self.indices = _ops.max_pool2d_with_indices(x, *self.windows)
        return y

    def backward(self, grad: After, tensors: Tensors, grads: Tensors, first: bool) -> Before | None:
        """The gradient goes to the largest value of each window."""
        if first:
            return None
        return _ops.max_pool2d_with_indices_backward(grad, self.x, *self.windows, self.indices)


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

    def forward(self, x: Before, tensors: Tensors) -> After:
        """The mean of each window."""
        self.x = x
        return _ops.avg_pool2d(x, *self.windows)

    def backward(self, grad: After, tensors: Tensors, grads: Tensors, first: bool) -> Before | None:
        """Every value of a window gets the same part of the gradient."""
        return None if first else _ops.avg_pool2d_backward(grad, self.x, *self.windows)


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
