"""One layer of all members: forward, and backward by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

Tensors = dict[str, Tensor]


class Stage(ABC):
    """A module of the model as a kernel over all members.

    It keeps what its backward pass needs until the next forward pass. Values that several members
    share enter once: `groups` of them divide the members evenly, in their order.

    Attributes:
        name: The module's name in the model.
        title: The module in messages, as in "nn.Tanh (act1)".
        parameters: The names of its parameters in the model.
        buffers: The names of its buffers in the model.
        training: Its mode, as of a module.
    """

    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    training: bool = True

    def __init__(self, name: str) -> None:
        self.name = self.title = name

    @abstractmethod
    def forward(self, x: Tensor, tensors: Tensors) -> Tensor:
        """The output, of all members if the module has parameters or buffers.

        Args:
            x: The input, in one of the two forms of this package.
            tensors: The stacked parameters and buffers, by name.
        """

    @abstractmethod
    def backward(
        self, grad: Tensor, tensors: Tensors, grads: Tensors, first: bool
    ) -> Tensor | None:
        """The gradient with respect to the input; fills in those of the parameters.

        Args:
            grad: The gradient with respect to the output.
            tensors: The stacked parameters and buffers, by name.
            grads: The tensors to fill with the parameters' gradients, by name.
            first: Whether no stage before this one has parameters, so that nothing needs the
                gradient with respect to the input.
        """
