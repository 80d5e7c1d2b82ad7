"""Many models of one architecture as one tensor program.

The members' parameters stand in one tensor a parameter, with the member as the first axis, and
`torch.func.vmap` of `torch.func.functional_call` runs them together (the model ensembling of
https://docs.pytorch.org/tutorials/intermediate/ensembling.html).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from initstudy.engine.batched import Chain
from initstudy.engine.batched.stage import Stage
from initstudy.engine.flat import side_by_side
from initstudy.probes.forward import Tensors, as_written, first_tensor


class Stack:
    """Members of one architecture, each with its own parameters and buffers.

    Args:
        model: The architecture. Its own values are never read, only its structure.
        members: One mapping of parameter name to tensor per member, on any device.
        device: Where the members train.
        vectorized: Whether one `vmap` runs all members, or a loop runs them one by one (for
            models with a layer that has no batching rule).
        stages: The model as batched kernels, where it is such a chain; they are used instead.

    Attributes:
        size: How many members there are.
        params, buffers: The stacked tensors by name; the parameters lie side by side (`flat`).
        tensors: Both, of which autograd knows nothing.
        grads: Where the gradients by the parameters go, in their order, side by side as well.
    """

    def __init__(
        self,
        model: nn.Module,
        members: Sequence[Mapping[str, Tensor]],
        *,
        device: torch.device | str = "cpu",
        vectorized: bool = True,
        stages: Sequence[Stage] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.vectorized = vectorized
        self.recurrent = any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in model.modules())
        self.size = len(members)
        self.chain = Chain(stages, self.size) if stages is not None else None
        self._hold(
            {name: torch.stack([m[name] for m in members]).to(self.device) for name in members[0]},
            {name: torch.stack([buffer] * self.size) for name, buffer in model.named_buffers()},
        )

    def __call__(
        self, x: Float[Tensor, "members batch ..."], taps: Tensors | None = None
    ) -> tuple[Float[Tensor, "members batch classes"], Tensors]:
        """Runs every member on its own batch, in the model's current mode (train or eval).

        Args:
            x: A batch for each member; a batch that all share may be an expanded view.
            taps: For a module's name, a tensor with the shape of its stacked output, to be added
                to that output. Differentiating by a tap of zeros gives the gradient of the output.

        Returns:
            The logits, and the stacked output of every tapped module after the addition.
        """
        taps = taps or {}
        with as_written(recurrent=self.recurrent and self.vectorized):
            if not self.vectorized:
                return _loop(self._member)(self.params, self.buffers, x, taps)
            if not self.recurrent:
                return vmap(self._member)(self.params, self.buffers, x, taps)
            return vmap(self._decomposed)(self.params, self.buffers, x, taps)

    @property
    def divisible(self) -> bool:
        """Whether the members round alike in a stack of fewer.

        A GPU's matrix products may not, nor a CPU's kernels on the images of all members.
        """
        on_images = self.chain is not None and self.chain.on_images
        return self.device.type == "cpu" and not on_images

    def train(self, training: bool) -> None:
        """Sets the mode of all members, as `nn.Module.train` does."""
        self.model.train(training)
        if self.chain is not None:
            self.chain.train(training)

    def select(self, places: Sequence[int]) -> Stack:
        """A stack of some of the members: copies of their parameters and buffers."""
        chosen = copy.copy(self)
        index = torch.tensor(places, dtype=torch.long, device=self.device)
        chosen.size = len(places)
        if self.chain is not None:
            chosen.chain = Chain(self.chain.stages, chosen.size)
        chosen._hold(
            {name: param.detach()[index] for name, param in self.params.items()},
            {name: buffer[index] for name, buffer in self.buffers.items()},
        )
        return chosen

    def member(self, place: int) -> Tensors:
        """One member's parameters and buffers, by name."""
        both = self.params | self.buffers
        return {name: tensor[place].detach().clone() for name, tensor in both.items()}

    def _hold(self, params: Tensors, buffers: Tensors) -> None:
        """Takes these over, the parameters as copies."""
        values = [value.detach() for value in params.values()]
        places = side_by_side(values)
        for place, value in zip(places, values, strict=True):
            place.copy_(value)
        self.params = {n: p.requires_grad_() for n, p in zip(params, places, strict=True)}
        self.buffers = buffers
        self.tensors = {name: place.detach() for name, place in self.params.items()} | buffers
        self.grads = side_by_side(values)

    def _member(
        self, params: Tensors, buffers: Tensors, x: Tensor, taps: Tensors
    ) -> tuple[Tensor, Tensors]:
        with tapped(self.model, taps) as outputs:
            logits = functional_call(self.model, (params, buffers), (x,))
        return logits, outputs

    def _decomposed(
        self, params: Tensors, buffers: Tensors, x: Tensor, taps: Tensors
    ) -> tuple[Tensor, Tensors]:
        """`_member` in the basic operations that have batching rules.

        The fused kernels of recurrent layers have none; a gradient transform takes them apart, and
        its own gradient is not used.
        """
        return vjp(lambda p: self._member(p, buffers, x, taps), params)[0]


@contextmanager
def tapped(model: nn.Module, taps: Mapping[str, Tensor]) -> Iterator[Tensors]:
    """Adds each tap to its module's output and yields the outputs, by name, once they exist.

    A module that is called more than once is tapped at its first call.
    """
    outputs: Tensors = {}

    def hook(name: str, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...] | None:
        if name in outputs:
            return None
        outputs[name] = first_tensor(output) + taps[name]
        return outputs[name] if isinstance(output, Tensor) else (outputs[name], *output[1:])

    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, output, name=name: hook(name, output)
        )
        for name in taps
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def not_vectorizable(model: nn.Module, x: Float[Tensor, "batch ..."]) -> str | None:
    """Why `vmap` cannot run this model, in one line, or None where it can.

    A model that draws random numbers (dropout) counts as one that cannot: stacked, its draws would
    depend on its neighbours.
    """
    stack = Stack(model, [{n: p.detach() for n, p in model.named_parameters()}] * 2)
    training = model.training
    try:
        logits, _ = stack(torch.stack([x, x]))
        torch.autograd.grad(logits.sum(), list(stack.params.values()), allow_unused=True)
        model.eval()
        with torch.no_grad():
            stack(torch.stack([x, x]))
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    finally:
        model.train(training)
    return None


def _loop(function):  # type: ignore[no-untyped-def]
    """`vmap` over the first axis of every argument, written as a plain loop."""

    def looped(params: Tensors, buffers: Tensors, x: Tensor, taps: Tensors):  # type: ignore[no-untyped-def]
        members = [
            function(_at(params, i), _at(buffers, i), x[i], _at(taps, i)) for i in range(len(x))
        ]
        logits = torch.stack([logits for logits, _ in members])
        outputs = {k: torch.stack([seen[k] for _, seen in members]) for k in members[0][1]}
        return logits, outputs

    return looped


def _at(tensors: Tensors, index: int) -> Tensors:
    return {name: tensor[index] for name, tensor in tensors.items()}
