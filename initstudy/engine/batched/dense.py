"""Linear layers, and what turns images into features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched.stage import Stage, Tensors


class Linear(Stage):
    """`nn.Linear` on features: one batched matrix product.

    Args:
        name: The module's name.
        module: The layer.
    """

    def __init__(self, name: str, module: nn.Linear) -> None:
        super().__init__(name)
        self.weight = f"{name}.weight"
        self.bias = f"{name}.bias" if module.bias is not None else None
        self.parameters = (self.weight, self.bias) if self.bias else (self.weight,)

    def forward(
        self, x: Float[Tensor, "groups inputs batch"], tensors: Tensors
    ) -> Float[Tensor, "members outputs batch"]:
        """The features of all members."""
        self.x = x
        weight = tensors[self.weight]
        members, outputs, inputs = weight.shape
        # The members of a group multiply the same input: one product for all their rows.
        stacked = weight.view(len(x), -1, inputs)
        if self.bias is None:
            y = torch.bmm(stacked, x)
        else:
            y = torch.baddbmm(tensors[self.bias].view(len(x), -1, 1), stacked, x)
        return y.view(members, outputs, -1)

    def backward(
        self,
        grad: Float[Tensor, "members outputs batch"],
        tensors: Tensors,
        grads: Tensors,
        first: bool,
    ) -> Float[Tensor, "members inputs batch"] | None:
        """Two batched matrix products at most."""
        weight = tensors[self.weight]
        stacked = grad.reshape(len(self.x), -1, grad.shape[2])
        by_weight = grads[self.weight].view(len(self.x), -1, weight.shape[2])
        torch.bmm(stacked, self.x.mT, out=by_weight)
        if self.bias is not None:
            torch.sum(grad, 2, out=grads[self.bias])
        return None if first else torch.bmm(weight.mT, grad)


class Flatten(Stage):
    """`nn.Flatten` of images into features, in the order that it gives them.

    Args:
        name: The module's name.
        shape: Channels, height and width.
    """

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        super().__init__(name)
        self.shape = shape

    def forward(
        self, x: Float[Tensor, "batch channels h w"], tensors: Tensors
    ) -> Float[Tensor, "members features batch"]:
        """The features of all members."""
        images = x.unflatten(1, (-1, self.shape[0])).permute(1, 2, 3, 4, 0)
        return images.flatten(1, 3)

    def backward(
        self,
        grad: Float[Tensor, "members features batch"],
        tensors: Tensors,
        grads: Tensors,
        first: bool,
    ) -> Float[Tensor, "batch channels h w"] | None:
        """The same values as images."""
        if first:
            return None
        images = grad.unflatten(1, self.shape).permute(4, 2, 3, 0, 1).contiguous()
        return images.flatten(3).permute(0, 3, 1, 2)
