"""Models, optimizers and members as arrays that compiled code takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from initstudy.engine.batched.dense import Flatten, Linear
from initstudy.engine.batched.elementwise import ByAutograd, FromOutput
from initstudy.engine.batched.stage import Stage
from initstudy.engine.compiled.arrays import ADAM, ADAMW, PLAIN, Layers, Members, Rule, Scratch
from initstudy.engine.contiguous import contiguous_buffer
from initstudy.engine.health import Health
from initstudy.engine.optimizers import SGD, Adam, Optimizer
from initstudy.engine.refusal import RefusedError
from initstudy.engine.stack import Stack


class Dense(NamedTuple):
    """A linear layer, and whether a ReLU follows it."""

    linear: Linear
    rectified: bool


def dense_layers(stages: Sequence[Stage]) -> list[Dense]:
    """The layers of a chain that can be compiled.

    Raises:
        RefusedError: It has others.
    """
    layers: list[Dense] = []
    for stage in stages:
        if isinstance(stage, Linear):
            layers.append(Dense(stage, rectified=False))
        elif _is_relu(stage) and layers:
            layers[-1] = Dense(layers[-1].linear, rectified=True)
        elif not (_is_identity(stage) or (isinstance(stage, Flatten) and not layers)):
            where = f"after {layers[-1].linear.name}" if layers else "before the first linear layer"
            raise RefusedError(f"{stage.title} {where} is not compiled yet")
    if layers[-1].rectified:
        raise RefusedError("a ReLU after the last linear layer is not compiled yet")
    return layers


def layers_of(dense: Sequence[Dense], stack: Stack, optimizer: Optimizer) -> Layers:
    """The layers, and the optimizer's factors of their learning rates."""
    offsets = {name: param.storage_offset() for name, param in stack.params.items()}
    scales = dict(zip(stack.params, optimizer.scales, strict=True))
    shapes = [stack.params[layer.linear.weight].shape for layer in dense]
    weights = [layer.linear.weight for layer in dense]
    biases = [layer.linear.bias for layer in dense]
    return Layers(
        sizes=np.array([(inputs, outputs) for _, outputs, inputs in shapes]),
        weights=np.array([offsets[weight] for weight in weights]),
        biases=np.array([offsets[bias] if bias else -1 for bias in biases]),
        rectified=np.array([layer.rectified for layer in dense]),
        weight_scales=np.array([scales[weight] for weight in weights], np.float32),
        bias_scales=np.array([scales[bias] if bias else 1.0 for bias in biases], np.float32),
    )


def rule_of(optimizer: Optimizer) -> Rule:
    """The optimizer's algorithm."""
    if isinstance(optimizer, SGD):
        return Rule(PLAIN, optimizer.nesterov, 0.0, 0.0, 0.0)
    assert isinstance(optimizer, Adam)
    beta1, beta2 = optimizer.betas
    return Rule(ADAMW if optimizer.decoupled else ADAM, False, beta1, beta2, optimizer.eps)


def members_of(stack: Stack, optimizer: Optimizer, health: Health) -> Members:
    """The members' tensors as arrays over the same memory."""
    params = contiguous_buffer(optimizer.params)
    assert params is not None
    state = {name: contiguous_buffer(tensors) for name, tensors in optimizer.state.items()}
    first = state.get("momentum_buffer", state.get("exp_avg"))
    second = state.get("exp_avg_sq")
    steps = optimizer.state.get("step", [torch.zeros(stack.size, dtype=torch.float64)])[0]
    settings, clip_norm = optimizer.settings(), optimizer.clip_norm
    nothing = torch.empty(0)
    return Members(
        params=params.numpy(),
        first=(nothing if first is None else first).numpy(),
        second=(nothing if second is None else second).numpy(),
        steps=steps.numpy(),
        # One number for all members is expanded to all; compiled code takes it as an array.
        lr=settings["lr"].contiguous().numpy(),
        decay=settings["weight_decay"].contiguous().numpy(),
        vector_decay=settings["vector_decay"].contiguous().numpy(),
        clip_norm=(nothing if clip_norm is None else clip_norm).contiguous().numpy(),
        momentum=settings.get("momentum", torch.zeros(stack.size)).contiguous().numpy(),
        alive=health.alive.numpy(),
        diverged_at=health.diverged_at.numpy(),
        last_loss=health.last_loss.numpy(),
    )


def scratch_for(layers: Layers, batch: int, *, clipped: bool) -> Scratch:
    """Scratch memory for a step on batches of this size.

    Args:
        layers: The model.
        batch: The number of examples.
        clipped: Whether gradients are clipped, so that all of them are needed at once.
    """
    inputs, outputs = layers.sizes.T
    widest, largest = batch * outputs.max(), (inputs * outputs).max()
    held = np.sum if clipped else np.max
    return Scratch(
        inputs=np.empty(batch * inputs[0], np.float32),
        features=np.empty((2, widest), np.float32),
        activations=np.empty(batch * outputs.sum(), np.float32),
        gradients=np.empty((2, widest), np.float32),
        weight_gradients=np.empty(held(inputs * outputs), np.float32),
        bias_gradients=np.empty(held(outputs), np.float32),
        weights=np.empty(largest, np.float32),
    )


def _is_relu(stage: Stage) -> bool:
    return isinstance(stage, FromOutput) and stage.function is torch.relu_


def _is_identity(stage: Stage) -> bool:
    return isinstance(stage, ByAutograd) and isinstance(stage.function, nn.Identity)
