"""Normalization over the batch and over features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched.stage import Stage, Tensors

_ops = torch.ops.aten


class BatchNorm(Stage):
    """`nn.BatchNorm1d` on features and `nn.BatchNorm2d` on images: one over all members' channels.

    Args:
        name: The module's name.
        module: The layer.
    """

    def __init__(self, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__(name)
        self.channels, self.eps, self.momentum = module.num_features, module.eps, module.momentum
        self.parameters = tuple(f"{name}.{key}" for key, _ in module.named_parameters())
        self.buffers = tuple(f"{name}.{key}" for key, _ in module.named_buffers())

    def forward(self, x: Float[Tensor, "*before"], tensors: Tensors) -> Float[Tensor, "*after"]:
        """The shape of the input, of all members unless the layer has no tensors of its own."""
        own = [tensors[name] for name in (*self.parameters, *self.buffers)]
        x = self._expand(x, len(own[0])) if own else x
        # The members' channels are the channels of one batch normalization.
        self.x = x if x.dim() == 4 else x.reshape(1, -1, x.shape[2])
        if self.training and self.x[:, 0].numel() == 1:
            raise ValueError(f"{self.name}: a batch of one value per channel cannot be normalized")
        affine: list[Tensor | None] = [tensors[name].view(-1) for name in self.parameters]
        self.weight, bias = affine or [None, None]
        return self._normalize(bias, [tensors[name] for name in self.buffers]).view(x.shape)

    def backward(
        self, grad: Float[Tensor, "*any"], tensors: Tensors, grads: Tensors, first: bool
    ) -> Float[Tensor, "*any"] | None:
        """The backward pass of training mode."""
        dx, *by_parameters = _ops.native_batch_norm_backward(
            grad.reshape(self.x.shape),
            self.x,
            self.weight,
            None,
            None,
            self.mean,
            self.inverse,
            True,
            self.eps,
            [not first, *[bool(self.parameters)] * 2],
        )
        for name, by_parameter in zip(self.parameters, by_parameters, strict=False):
            grads[name].copy_(by_parameter.view_as(tensors[name]))
        return None if first else dx.view(grad.shape)

    def _normalize(self, bias: Tensor | None, running: list[Tensor]) -> Tensor:
        """Normalizes by the batch, or in evaluation mode by the running statistics if there are."""
        if running and not self.training:
            statistics = [buffer.view(-1) for buffer in running[:2]]
        else:
            statistics = [self.x.new_zeros(self.x.shape[1]) for _ in range(2)]
        by_batch = self.training or not running
        # With a momentum of 1 the kernel leaves this batch's statistics there.
        y, self.mean, self.inverse = _ops.native_batch_norm(
            self.x, self.weight, bias, *statistics, by_batch, 1.0, self.eps
        )
        if running and self.training:
            self._follow(running, statistics)
        return y

    def _follow(self, running: list[Tensor], statistics: list[Tensor]) -> None:
        """Moves the running mean and variance towards a batch's."""
        mean, _, count = running
        count.add_(1)
        rate = (1 / count)[:, None] if self.momentum is None else self.momentum
        for buffer, latest in zip(running, statistics, strict=False):
            buffer.lerp_(latest.view_as(mean), rate)

    def _expand(self, x: Tensor, members: int) -> Tensor:
        """The input of each member, from that of each group."""
        if x.dim() == 3:
            return x.repeat_interleave(members // len(x), 0)
        images = x.unflatten(1, (-1, self.channels))
        each = images.repeat_interleave(members // images.shape[1], 1).flatten(1, 2)
        return each.contiguous(memory_format=torch.channels_last)


class LayerNorm(Stage):
    """`nn.LayerNorm` over all features.

    Args:
        name: The module's name.
        module: The layer.
    """

    def __init__(self, name: str, module: nn.LayerNorm) -> None:
        super().__init__(name)
        self.eps = module.eps
        self.weight = f"{name}.weight" if module.weight is not None else None
        self.bias = f"{name}.bias" if module.bias is not None else None
        self.parameters = tuple(key for key in (self.weight, self.bias) if key is not None)

    def forward(
        self, x: Float[Tensor, "groups features batch"], tensors: Tensors
    ) -> Float[Tensor, "members features batch"]:
        """The same features, of all members if the layer has parameters."""
        # Over the middle axis, since a copy with the features last costs more than the sums.
        centred = x - x.mean(1, keepdim=True)
        self.inverse = centred.square().mean(1, keepdim=True).add_(self.eps).rsqrt_()
        self.y = centred.mul_(self.inverse)
        y = self.y
        if self.weight is not None:
            y = self._each(y, tensors[self.weight]) * tensors[self.weight][..., None]
        if self.bias is not None:
            y = self._each(y, tensors[self.bias]) + tensors[self.bias][..., None]
        return y

    def backward(
        self,
        grad: Float[Tensor, "members features batch"],
        tensors: Tensors,
        grads: Tensors,
        first: bool,
    ) -> Float[Tensor, "members features batch"] | None:
        """The gradient through the mean and the variance as well."""
        if self.bias is not None:
            torch.sum(grad, 2, out=grads[self.bias])
        if self.weight is not None:
            torch.sum(grad * self._each(self.y, grad), 2, out=grads[self.weight])
            grad = grad * tensors[self.weight][..., None]
        if first:
            return None
        along = (grad * self.y).mean(1, keepdim=True)
        centred = grad - grad.mean(1, keepdim=True)
        return centred.addcmul_(self.y, along, value=-1).mul_(self.inverse)

    def _each(self, y: Tensor, members: Tensor) -> Tensor:
        """The features of each member, from those of each group."""
        return y.repeat_interleave(len(members) // len(y), 0) if len(y) < len(members) else y
