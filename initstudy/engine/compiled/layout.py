"""Models, optimizers and members as arrays that compiled code takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from initstudy.engine.batched.dense import Flatten, Linear
from initstudy.engine.batched.elementwise import ByAutograd, FromOutput
from initstudy.engine.batched.stage import Stage
from initstudy.engine.compiled.arrays import ADAM, ADAMW, PLAIN, Layers, Members, Rule, Scratch
from initstudy.engine.flat import whole
from initstudy.engine.optimizers import SGD, Adam, Optimizer
from initstudy.engine.stepper import Stepper


def linear_layers(stages: Sequence[Stage]) -> list[tuple[Linear, bool]]:
    """The linear layers of a chain, and whether a ReLU follows each; none where it has others."""
    found: list[tuple[Linear, bool]] = []
    for stage in stages:
        if isinstance(stage, Linear):
            found.append((stage, False))
        elif isinstance(stage, FromOutput) and stage.function is torch.relu_ and found:
            found[-1] = found[-1][0], True
        elif not (_is_identity(stage) or (isinstance(stage, Flatten) and not found)):
            return []
    # The last one's outputs are logits.
    return [] if found and found[-1][1] else found


def _is_identity(stage: Stage) -> bool:
    return isinstance(stage, ByAutograd) and isinstance(stage.function, nn.Identity)


def layers_of(stepper: Stepper) -> Layers:
    """The model, and the optimizer's factors of its layers' learning rates."""
    stack = stepper.stack
    assert stack.chain is not None
    found = linear_layers(stack.chain.stages)
    places = {name: param.storage_offset() for name, param in stack.params.items()}
    scales = dict(zip(stack.params, stepper.optimizer.scales, strict=True))
    shapes = [stack.params[layer.weight].shape for layer, _ in found]
    biases = [layer.bias for layer, _ in found]
    return Layers(
        np.array([(inputs, outputs) for _, outputs, inputs in shapes]),
        np.array([places[layer.weight] for layer, _ in found]),
        np.array([places[bias] if bias else -1 for bias in biases]),
        np.array([rectified for _, rectified in found]),
        np.array([scales[layer.weight] for layer, _ in found], np.float32),
        np.array([scales[bias] if bias else 1.0 for bias in biases], np.float32),
    )


def rule_of(optimizer: Optimizer) -> Rule:
    """The optimizer's algorithm."""
    if isinstance(optimizer, SGD):
        return Rule(PLAIN, optimizer.nesterov, 0.0, 0.0, 0.0)
    assert isinstance(optimizer, Adam)
    return Rule(ADAMW if optimizer.decoupled else ADAM, False, *optimizer.betas, optimizer.eps)


def members_of(stepper: Stepper) -> Members:
    """The members, in the memory in which they are."""
    optimizer, size = stepper.optimizer, stepper.stack.size
    params = whole(optimizer.params)
    assert params is not None
    state = {name: whole(tensors) for name, tensors in optimizer.state.items()}
    first = state.get("momentum", state.get("mean"))
    second = state.get("square")
    updates = optimizer.state.get("updates", [torch.zeros(size, dtype=torch.float64)])[0]
    momentum = optimizer.momentum if isinstance(optimizer, SGD) else torch.zeros(size)
    none = torch.empty(0)
    tensors = (
        params,
        none if first is None else first,
        none if second is None else second,
        updates,
        optimizer.lr,
        optimizer.weight_decay,
        momentum,
        stepper.alive,
        stepper.diverged_at,
        stepper.last_loss,
    )
    return Members(*(tensor.contiguous().numpy() for tensor in tensors))


def room_for(layers: Layers, batch: int) -> Scratch:
    """Room for a step on batches of this size."""
    inputs, outputs = layers.sizes.T
    widest, largest = batch * outputs.max(), (inputs * outputs).max()
    room = (
        batch * inputs[0],
        (2, widest),
        batch * outputs.sum(),
        (2, widest),
        largest,
        outputs.max(),
        largest,
    )
    return Scratch(*(np.empty(size, np.float32) for size in room))
