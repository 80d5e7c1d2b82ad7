"""Losses, accuracies and gradients of a stack: on a batch, and over a whole test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from initstudy.engine.losses import cross_entropy, score
from initstudy.engine.stack import Stack, Tensors
from initstudy.probes.layers import Layer

Scores = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pass:
    """A forward and a backward pass of all members on a batch.

    Attributes:
        loss: Each member's mean cross-entropy.
        hits: Each member's accuracy.
        grads: The gradients of each member's loss by its parameters, in the stack's order; the
            stack's own, until its next pass.
        outputs: The activations `[members, batch, ...]` of the layers that were asked for.
        output_grads: The gradients of each member's loss by them.
    """

    loss: Float[Tensor, " members"]
    hits: Float[Tensor, " members"]
    grads: list[Tensor]
    outputs: Tensors = field(default_factory=dict)
    output_grads: Tensors = field(default_factory=dict)


def differentiate(
    stack: Stack,
    x: Float[Tensor, "groups batch ..."],
    y: Int[Tensor, "groups batch"],
    layers: Sequence[Layer] = (),
) -> Pass:
    """One pass forward and back.

    Args:
        stack: The members.
        x: An input for each member, or for each of as many groups of neighbours as divide the
            members evenly.
        y: Their labels.
        layers: Whose activations to keep, and the gradients by them.
    """
    if stack.chain is None:
        return _by_autograd(stack, x, y, layers)
    with torch.no_grad():
        outputs: Tensors = dict.fromkeys([layer.output for layer in layers], torch.empty(0))
        output_grads = dict(outputs)
        logits = stack.chain.forward(x, stack.tensors, outputs)
        loss, hits, grad = cross_entropy(logits, y)
        grads = dict(zip(stack.params, stack.grads, strict=True))
        stack.chain.backward(grad, stack.tensors, grads, output_grads)
    return Pass(loss, hits, stack.grads, outputs, output_grads)


def _by_autograd(stack: Stack, x: Tensor, y: Tensor, layers: Sequence[Layer]) -> Pass:
    x, y = _each(x, stack.size), _each(y, stack.size)
    taps = {
        layer.output: torch.zeros(
            stack.size, x.shape[1], *layer.shape, device=stack.device, requires_grad=True
        )
        for layer in layers
    }
    logits, outputs = stack(x, taps)
    flat = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    loss = flat.view(y.shape).mean(1)
    inputs = [*stack.params.values(), *taps.values()]
    # A parameter that a model never uses has a gradient of zero.
    gradients = torch.autograd.grad(loss.sum(), inputs, materialize_grads=True)
    by_params, by_taps = gradients[: len(stack.params)], gradients[len(stack.params) :]
    torch._foreach_copy_(stack.grads, by_params)
    return Pass(
        loss.detach(),
        score(logits.detach().mT, y)[1],
        stack.grads,
        {name: output.detach() for name, output in outputs.items()},
        dict(zip(taps, by_taps, strict=True)),
    )


@torch.no_grad()
def evaluate(
    stack: Stack, test: Iterator[tuple[Tensor, Tensor]], scores: Scores | None = None
) -> Tensors:
    """Each member's mean loss and accuracy over a whole test set, in evaluation mode.

    Args:
        stack: The members.
        test: The test set in chunks.
        scores: Gives each member's loss and accuracy on a chunk, where the stack itself shall not.
    """
    loss = torch.zeros(stack.size, device=stack.device, dtype=torch.float64)
    hits = torch.zeros_like(loss)
    count = 0
    stack.train(False)
    for x, y in test:
        losses, right = scores(x, y) if scores else _scores(stack, x, y)
        loss += losses.double() * len(y)
        hits += right.double() * len(y)
        count += len(y)
    stack.train(True)
    return {"test/loss": loss / count, "test/accuracy": hits / count}


def _scores(stack: Stack, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if stack.chain is not None:
        logits = stack.chain.forward(x[None], stack.tensors)
    else:
        logits = stack(_each(x[None], stack.size))[0].mT
    return score(logits, y[None])


def _each(groups: Tensor, members: int) -> Tensor:
    """The input of each member, from that of each group of neighbours."""
    if len(groups) == 1:
        return groups.expand(members, *groups.shape[1:])
    return groups.repeat_interleave(members // len(groups), 0) if len(groups) < members else groups
