"""A step of dense chains in machine code, a member at a time.

A member of the usual size fits into a core's own cache with all that a step makes of it, so nothing
but its parameters and the optimizer's state travels, and no Python runs between two members. Only
forms of the matrix product are used in which both factors are read along their rows, which BLAS
libraries like best: forward the features come first and the batch second, backward the other way
around.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array

from initstudy.engine.compiled import statistics
from initstudy.engine.compiled.arrays import Layers, Members, Rule, Scratch
from initstudy.engine.compiled.jit import kept, part
from initstudy.engine.compiled.updates import at, update

_ZERO = np.float32(0)
_ONE = np.float32(1)


@kept
def step(
    x: Float[Array, "groups batch inputs"],
    y: Int[Array, "groups batch"],
    begin: int,
    end: int,
    number: int,
    layers: Layers,
    rule: Rule,
    members: Members,
    scratch: Scratch,
    losses: Float[Array, " members"],
    accuracies: Float[Array, " members"],
    measurements: Float[Array, "members layers statistics"],
    updating: bool,
) -> None:
    """One update of the members from `begin` up to `end`.

    A member whose loss is not finite is frozen before its update.

    Args:
        x: An input for each of as many groups of neighbours as divide all members evenly.
        y: Their labels.
        begin: The first member.
        end: The one after the last.
        number: Of the step.
        layers: The model.
        rule: The optimizer.
        members: Of the whole pack.
        scratch: Used by nobody else meanwhile.
        losses: Takes each member's mean cross-entropy on the batch before its update.
        accuracies: Takes its accuracy.
        measurements: Takes the statistics of each layer, before the update; empty for none.
        updating: Whether to update, or only to look.

    Raises:
        IndexError: A label is none of the model's classes.
    """
    neighbours = len(members.alive) // len(x)
    batch, inputs = x.shape[1], x.shape[2]
    transposed = scratch.inputs[: inputs * batch].reshape(inputs, batch)
    for member in range(begin, end):
        group = member // neighbours
        if member == begin or member % neighbours == 0:
            _transpose(x[group], transposed)
        if not members.alive[member]:
            losses[member], accuracies[member] = members.last_loss[member], _ZERO
            continue
        measured = measurements[member] if len(measurements) else measurements[0:0].reshape(0, 0)
        logits = _forward(transposed, member, layers, members.params, scratch, measured)
        gradients = scratch.gradients[0, : logits.size].reshape(batch, len(logits))
        losses[member], accuracies[member] = _cross_entropy(logits, y[group], gradients)
        finite = np.isfinite(losses[member])
        if updating:
            members.last_loss[member] = losses[member]
            members.alive[member] = finite
            members.steps[member] += finite
            if not finite:
                members.diverged_at[member] = number
        if len(measured) or finite:
            _backward(
                x[group], member, layers, rule, members, scratch, measured, updating and finite
            )


@kept
def evaluate(
    x: Float[Array, "batch inputs"],
    y: Int[Array, " batch"],
    begin: int,
    end: int,
    layers: Layers,
    params: Float[Array, " values"],
    scratch: Scratch,
    losses: Float[Array, " members"],
    accuracies: Float[Array, " members"],
) -> None:
    """Losses and accuracies of the members from `begin` up to `end` on inputs that all share.

    Args:
        x: The inputs.
        y: Their labels.
        begin: The first member.
        end: The one after the last.
        layers: The model.
        params: Of the whole pack.
        scratch: Used by nobody else meanwhile.
        losses: Takes each member's mean cross-entropy.
        accuracies: Takes its accuracy.

    Raises:
        IndexError: A label is none of the model's classes.
    """
    batch, inputs = x.shape
    transposed = scratch.inputs[: inputs * batch].reshape(inputs, batch)
    _transpose(x, transposed)
    nothing = np.empty((0, 0))
    for member in range(begin, end):
        logits = _forward(transposed, member, layers, params, scratch, nothing)
        gradients = scratch.gradients[0, : logits.size].reshape(batch, len(logits))
        losses[member], accuracies[member] = _cross_entropy(logits, y, gradients)


@part
def _forward(
    transposed: Float[Array, "inputs batch"],
    member: int,
    layers: Layers,
    params: Float[Array, " values"],
    scratch: Scratch,
    measured: Float[Array, "layers statistics"],
) -> Float[Array, "classes batch"]:
    """The logits; keeps the activations for the way back."""
    batch = transposed.shape[1]
    value, kept = transposed, 0
    last = len(layers.sizes) - 1
    for layer in range(last + 1):
        inputs, outputs = layers.sizes[layer]
        weight = at(params, layers.weights[layer], member, inputs * outputs)
        output = scratch.features[layer % 2, : outputs * batch].reshape(outputs, batch)
        np.dot(weight.reshape(outputs, inputs), value, output)
        if layers.biases[layer] >= 0:
            bias = at(params, layers.biases[layer], member, outputs)
            for i in range(outputs):
                for j in range(batch):
                    output[i, j] += bias[i]
        if layers.rectified[layer]:
            for i in range(outputs):
                for j in range(batch):
                    # This way around, what is no number stays so.
                    output[i, j] = _ZERO if output[i, j] < _ZERO else output[i, j]
        if len(measured):
            statistics.of_activation(output, measured[layer])
        if layer < last:
            _transpose(
                output, scratch.activations[kept : kept + output.size].reshape(batch, outputs)
            )
            kept += output.size
        value = output
    return value


@part
def _cross_entropy(
    logits: Float[Array, "classes batch"],
    labels: Int[Array, " batch"],
    gradients: Float[Array, "batch classes"],
) -> tuple[np.float32, np.float32]:
    """The mean loss and the accuracy of a batch; fills in the gradient by the logits.

    The label's must be the first of the largest logits, and all of them finite, for a hit.
    """
    classes, batch = logits.shape
    largest = logits[0].copy()
    predicted = np.zeros(batch, np.int32)
    for c in range(1, classes):
        for j in range(batch):
            if logits[c, j] > largest[j]:
                largest[j] = logits[c, j]
                predicted[j] = c
    loss, right = 0.0, 0
    total = np.zeros(batch, np.float32)
    for j in range(batch):
        if labels[j] < 0 or labels[j] >= classes:
            raise IndexError("a target is not one of the model's classes")
        loss -= logits[labels[j], j] - largest[j]
    for c in range(classes):
        for j in range(batch):
            logits[c, j] = np.exp(logits[c, j] - largest[j])
            total[j] += logits[c, j]
    share = _ONE / np.float32(batch)
    for j in range(batch):
        loss += np.log(total[j])
        right += predicted[j] == labels[j] and total[j] < np.inf
        total[j] = share / total[j]
    for j in range(batch):
        for c in range(classes):
            gradients[j, c] = logits[c, j] * total[j]
        gradients[j, labels[j]] -= share
    return np.float32(loss / batch), np.float32(right / batch)


@part
def _backward(
    x: Float[Array, "batch inputs"],
    member: int,
    layers: Layers,
    rule: Rule,
    members: Members,
    scratch: Scratch,
    measured: Float[Array, "layers statistics"],
    updating: bool,
) -> None:
    """Updates each layer as soon as nothing asks for its weights any more.

    Takes the gradient by the logits from `scratch.gradients`.
    """
    batch = len(x)
    last = len(layers.sizes) - 1
    kept = 0
    for layer in range(1, last + 1):
        kept += batch * layers.sizes[layer, 0]
    for layer in range(last, -1, -1):
        inputs, outputs = layers.sizes[layer]
        here = (last - layer) % 2
        gradient = scratch.gradients[here, : batch * outputs].reshape(batch, outputs)
        before = x
        if layer > 0:
            kept -= batch * inputs
            before = scratch.activations[kept : kept + batch * inputs].reshape(batch, inputs)
        weight_gradient = scratch.weight_gradients[: outputs * inputs]
        np.dot(gradient.T, before, weight_gradient.reshape(outputs, inputs))
        weight = at(members.params, layers.weights[layer], member, inputs * outputs)
        if len(measured):
            if layer == last:
                statistics.of_gradient(gradient.reshape(gradient.size), measured[layer])
            statistics.of_weight(weight, weight_gradient, measured[layer])
        if layer > 0:
            below = scratch.gradients[1 - here, : batch * inputs].reshape(batch, inputs)
            np.dot(gradient, weight.reshape(outputs, inputs), below)
            if len(measured):
                statistics.of_gradient(below.reshape(below.size), measured[layer - 1])
            if layers.rectified[layer - 1]:
                for j in range(batch):
                    for i in range(inputs):
                        below[j, i] = _ZERO if before[j, i] <= _ZERO else below[j, i]
        if not updating:
            continue
        if len(measured):
            for i in range(len(weight)):
                scratch.weights[i] = weight[i]
        update(
            layers.weights[layer],
            weight_gradient,
            layers.weight_scales[layer],
            member,
            rule,
            members,
        )
        if len(measured):
            statistics.of_update(scratch.weights[: len(weight)], weight, measured[layer])
        if layers.biases[layer] >= 0:
            bias_gradient = scratch.bias_gradients[:outputs]
            for i in range(outputs):
                bias_gradient[i] = gradient[0, i]
            for j in range(1, batch):
                for i in range(outputs):
                    bias_gradient[i] += gradient[j, i]
            update(
                layers.biases[layer],
                bias_gradient,
                layers.bias_scales[layer],
                member,
                rule,
                members,
            )


@part
def _transpose(values: Float[Array, "rows columns"], into: Float[Array, "columns rows"]) -> None:
    # Written along the rows of the copy: that way around it is several times as fast.
    for j in range(values.shape[1]):
        for i in range(values.shape[0]):
            into[j, i] = values[i, j]
