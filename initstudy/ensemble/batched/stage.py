"""One layer of all members: forward, and backward by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

Tensors = dict[str, Tensor]


class Stage(ABC):
    """A module of the model as a kernel over all members.

    It keeps what its backward pass needs until the next forward pass. Values that are the same for
    several members enter once: `groups` of them divide the members evenly, in their order.

    Attributes:
        name: The module's name in the model.
        parameters: The names of its parameters in the model.
    """

    parameters: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def forward(self, x: Tensor, params: Tensors) -> Tensor:
        """The output, of all members where the module has parameters."""

    @abstractmethod
    def backward(self, grad: Tensor, params: Tensors, grads: Tensors, first: bool) -> Tensor | None:
        """The gradient by the input, from that by the output; adds those by the parameters.

        Args:
            grad: The gradient by the output. It may be overwritten.
            params: The stacked parameters.
            grads: Where the parameters' gradients go, by name.
            first: Whether no stage before has parameters: nobody needs the gradient by the input.
        """
