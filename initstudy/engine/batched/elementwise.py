"""Activation functions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.engine.batched.stage import Stage, Tensors

_ops = torch.ops.aten
Function = Callable[[Tensor], Tensor]
# From the gradient with respect to the output, and the output, to that with respect to the input.
Derivative = Callable[[Tensor, Tensor], Tensor]

# Functions that work in place, and whose derivative is a function of their value.
FROM_OUTPUT: dict[type[nn.Module], tuple[Function, Derivative]] = {
    nn.ReLU: (torch.relu_, lambda grad, y: _ops.threshold_backward(grad, y, 0)),
    nn.Tanh: (torch.tanh_, _ops.tanh_backward),
    nn.Sigmoid: (torch.sigmoid_, _ops.sigmoid_backward),
}
BY_AUTOGRAD = (
    nn.Identity,
    nn.GELU,
    nn.SELU,
    nn.ELU,
    nn.CELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.LeakyReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
)


class FromOutput(Stage):
    """An activation function whose derivative is a function of its value.

    Args:
        name: The module's name.
        module: A class of `FROM_OUTPUT`.
        in_place: Whether it may overwrite its input, since no other stage reads it.
    """

    def __init__(self, name: str, module: nn.Module, *, in_place: bool) -> None:
        super().__init__(name)
        self.function, self.derivative = FROM_OUTPUT[type(module)]
        self.in_place = in_place

    def forward(self, x: Float[Tensor, "*any"], tensors: Tensors) -> Float[Tensor, "*any"]:
        """The function of every entry."""
        self.y = self.function(x if self.in_place else x.clone())
        return self.y

    def backward(
        self, grad: Float[Tensor, "*any"], tensors: Tensors, grads: Tensors, first: bool
    ) -> Float[Tensor, "*any"] | None:
        """The gradient times the derivative."""
        return None if first else self.derivative(grad, self.y)


class ByAutograd(Stage):
    """Any other function of single entries, differentiated by autograd.

    Args:
        name: The module's name.
        module: The function, without parameters.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name)
        self.function = copy.deepcopy(module)
        if hasattr(self.function, "inplace"):
            self.function.__dict__["inplace"] = False

    def forward(self, x: Float[Tensor, "*any"], tensors: Tensors) -> Float[Tensor, "*any"]:
        """The function of every entry."""
        self.x = x.detach().requires_grad_()
        with torch.enable_grad():
            self.y = self.function(self.x)
        return self.y.detach()

    def backward(
        self, grad: Float[Tensor, "*any"], tensors: Tensors, grads: Tensors, first: bool
    ) -> Float[Tensor, "*any"] | None:
        """The gradient times the derivative."""
        return None if first else torch.autograd.grad(self.y, self.x, grad)[0]
