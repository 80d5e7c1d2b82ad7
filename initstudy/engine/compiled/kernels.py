"""A step of dense chains in machine code, a member at a time.

A member of the usual size fits into a core's own cache together with everything that a step makes
of it, so that only its parameters and the optimizer's state travel, and no Python runs between two
members. Matrix products have only those forms in which both factors are read along their rows,
which BLAS libraries do fastest: the features come first on the way forward, the batch on the way
back.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array

from initstudy.engine.compiled import statistics
from initstudy.engine.compiled.arrays import Layers, Members, Results, Rule, Scratch
from initstudy.engine.compiled.jit import kept, part
from initstudy.engine.compiled.updates import at, clipping, sum_of_squares, update

_ZERO = np.float32(0)
_ONE = np.float32(1)


@kept
def step(
    inputs: Float[Array, "groups batch features"],
    targets: Int[Array, "groups batch"],
    begin: int,
    end: int,
    number: int,
    layers: Layers,
    rule: Rule,
    members: Members,
    scratch: Scratch,
    results: Results,
    updating: bool,
) -> None:
    """Updates the members from `begin` up to `end` once.

    A member whose loss is not finite is frozen before its update.

    Args:
        inputs: A batch for each of as many groups of neighbours as divide all members evenly.
        targets: Their classes.
        begin: The first member.
        end: The member after the last.
        number: The number of the step.
        layers: The model.
        rule: The optimizer.
        members: The whole pack.
        scratch: Memory that no other thread uses meanwhile.
        results: Takes the losses, the accuracies and the statistics before the update.
        updating: Whether to update the members; otherwise they are only measured.

    Raises:
        IndexError: A target is not one of the model's classes.
    """
    neighbours = len(members.alive) // len(inputs)
    batch, features = inputs.shape[1], inputs.shape[2]
    transposed = scratch.inputs[: features * batch].reshape(features, batch)
    for member in range(begin, end):
        group = member // neighbours
        if member == begin or member % neighbours == 0:
            _transpose(inputs[group], transposed)
        if not members.alive[member]:
            results.losses[member] = members.last_loss[member]
            results.accuracies[member] = _ZERO
            continue
        measured = _measured(results, member)
        outputs = _forward(transposed, member, layers, members.params, scratch, measured)
        gradient = scratch.gradients[0, : outputs.size].reshape(batch, len(outputs))
        loss, accuracy = _cross_entropy(outputs, targets[group], gradient)
        results.losses[member], results.accuracies[member] = loss, accuracy
        finite = np.isfinite(loss)
        if updating:
            _record(loss, finite, member, number, members)
        if len(measured) or finite:
            update_too = updating and finite
            _backward(inputs[group], member, layers, rule, members, scratch, measured, update_too)


@kept
def evaluate(
    inputs: Float[Array, "batch features"],
    targets: Int[Array, " batch"],
    begin: int,
    end: int,
    layers: Layers,
    params: Float[Array, " values"],
    scratch: Scratch,
    results: Results,
) -> None:
    """Evaluates the members from `begin` up to `end` on a batch that all share.

    Args:
        inputs: The batch.
        targets: Its classes.
        begin: The first member.
        end: The member after the last.
        layers: The model.
        params: The parameters of the whole pack.
        scratch: Memory that no other thread uses meanwhile.
        results: Takes the losses and the accuracies.

    Raises:
        IndexError: A target is not one of the model's classes.
    """
    batch, features = inputs.shape
    transposed = scratch.inputs[: features * batch].reshape(features, batch)
    _transpose(inputs, transposed)
    nothing = np.empty((0, 0))
    for member in range(begin, end):
        outputs = _forward(transposed, member, layers, params, scratch, nothing)
        gradient = scratch.gradients[0, : outputs.size].reshape(batch, len(outputs))
        loss, accuracy = _cross_entropy(outputs, targets, gradient)
        results.losses[member], results.accuracies[member] = loss, accuracy


@part
def _measured(results: Results, member: int) -> Float[Array, "layers statistics"]:
    """Where a member's statistics go; empty if nothing is measured."""
    measurements = results.measurements
    return measurements[member] if len(measurements) else measurements[0:0].reshape(0, 0)


@part
def _record(loss: np.float32, finite: bool, member: int, number: int, members: Members) -> None:
    """Notes a member's loss, and freezes the member if the loss is not finite."""
    members.last_loss[member] = loss
    members.alive[member] = finite
    members.steps[member] += finite
    if not finite:
        members.diverged_at[member] = number


@part
def _forward(
    transposed: Float[Array, "features batch"],
    member: int,
    layers: Layers,
    params: Float[Array, " values"],
    scratch: Scratch,
    measured: Float[Array, "layers statistics"],
) -> Float[Array, "classes batch"]:
    """The outputs; keeps the activations for the backward pass."""
    batch = transposed.shape[1]
    value, kept_values = transposed, 0
    last = len(layers.sizes) - 1
    for layer in range(last + 1):
        inputs, outputs = layers.sizes[layer]
        weight = at(params, layers.weights[layer], member, inputs * outputs)
        output = scratch.features[layer % 2, : outputs * batch].reshape(outputs, batch)
        np.dot(weight.reshape(outputs, inputs), value, output)
        if layers.biases[layer] >= 0:
            _add_bias(output, at(params, layers.biases[layer], member, outputs))
        if layers.rectified[layer]:
            _rectify(output)
        if len(measured):
            statistics.of_activation(output, measured[layer])
        if layer < last:
            end = kept_values + output.size
            _transpose(output, scratch.activations[kept_values:end].reshape(batch, outputs))
            kept_values = end
        value = output
    return value


@part
def _add_bias(output: Float[Array, "units batch"], bias: Float[Array, " units"]) -> None:
    for i in range(output.shape[0]):
        for j in range(output.shape[1]):
            output[i, j] += bias[i]


@part
def _rectify(output: Float[Array, "units batch"]) -> None:
    for i in range(output.shape[0]):
        for j in range(output.shape[1]):
            # Not `max(output, 0)`, which would replace NaN by zero.
            output[i, j] = _ZERO if output[i, j] < _ZERO else output[i, j]


@part
def _cross_entropy(
    outputs: Float[Array, "classes batch"],
    targets: Int[Array, " batch"],
    gradient: Float[Array, "batch classes"],
) -> tuple[np.float32, np.float32]:
    """The mean loss and the accuracy of a batch; fills in the gradient with respect to the outputs.

    An example counts as correct if its target is the first of the largest outputs and none of its
    outputs is NaN or plus infinity. Overwrites the outputs.
    """
    classes, batch = outputs.shape
    largest = outputs[0].copy()
    predicted = np.zeros(batch, np.int32)
    for c in range(1, classes):
        for j in range(batch):
            if outputs[c, j] > largest[j]:
                largest[j] = outputs[c, j]
                predicted[j] = c
    loss, correct = 0.0, 0
    total = np.zeros(batch, np.float32)
    for j in range(batch):
        if targets[j] < 0 or targets[j] >= classes:
            raise IndexError("a target is not one of the model's classes")
        loss -= outputs[targets[j], j] - largest[j]
    for c in range(classes):
        for j in range(batch):
            outputs[c, j] = np.exp(outputs[c, j] - largest[j])
            total[j] += outputs[c, j]
    weight = _ONE / np.float32(batch)
    for j in range(batch):
        loss += np.log(total[j])
        correct += predicted[j] == targets[j] and total[j] < np.inf
        total[j] = weight / total[j]
    for j in range(batch):
        for c in range(classes):
            gradient[j, c] = outputs[c, j] * total[j]
        gradient[j, targets[j]] -= weight
    return np.float32(loss / batch), np.float32(correct / batch)


@part
def _backward(
    inputs: Float[Array, "batch features"],
    member: int,
    layers: Layers,
    rule: Rule,
    members: Members,
    scratch: Scratch,
    measured: Float[Array, "layers statistics"],
    updating: bool,
) -> None:
    """Updates each layer as soon as no gradient needs its weights any more.

    Takes the gradient with respect to the outputs from `scratch.gradients[0]`.
    """
    batch = len(inputs)
    last = len(layers.sizes) - 1
    kept_values, held_weights, held_biases = 0, 0, 0
    clipped, squares = updating and len(members.clip_norm) > 0, 0.0
    for layer in range(1, last + 1):
        kept_values += batch * layers.sizes[layer, 0]
    for layer in range(last, -1, -1):
        fan_in, fan_out = layers.sizes[layer]
        current = (last - layer) % 2
        gradient = scratch.gradients[current, : batch * fan_out].reshape(batch, fan_out)
        value = inputs
        if layer > 0:
            kept_values -= batch * fan_in
            value = scratch.activations[kept_values : kept_values + batch * fan_in].reshape(
                batch, fan_in
            )
        end = held_weights + fan_out * fan_in
        by_weight = scratch.weight_gradients[held_weights:end]
        np.dot(gradient.T, value, by_weight.reshape(fan_out, fan_in))
        weight = at(members.params, layers.weights[layer], member, fan_in * fan_out)
        if len(measured):
            if layer == last:
                statistics.of_gradient(gradient.reshape(gradient.size), measured[layer])
            statistics.of_weight(weight, by_weight, measured[layer])
        if layer > 0:
            below = scratch.gradients[1 - current, : batch * fan_in].reshape(batch, fan_in)
            np.dot(gradient, weight.reshape(fan_out, fan_in), below)
            if len(measured):
                statistics.of_gradient(below.reshape(below.size), measured[layer - 1])
            if layers.rectified[layer - 1]:
                _rectify_gradient(below, value)
        if not updating:
            continue
        by_bias = scratch.bias_gradients[held_biases : held_biases + fan_out]
        if layers.biases[layer] >= 0:
            _sum_over_batch(gradient, by_bias)
        if clipped:
            squares += sum_of_squares(by_weight)
            if layers.biases[layer] >= 0:
                squares += sum_of_squares(by_bias)
            held_weights, held_biases = end, held_biases + fan_out
        else:
            _update_layer(
                layer, by_weight, by_bias, member, layers, rule, members, scratch, measured
            )
    if clipped:
        factor = clipping(squares, members.clip_norm[member])
        _update_clipped(factor, member, layers, rule, members, scratch, measured)


@part
def _sum_over_batch(gradient: Float[Array, "batch units"], by_bias: Float[Array, " units"]) -> None:
    """The gradient with respect to a layer's biases, from that with respect to its outputs."""
    batch, units = gradient.shape
    for i in range(units):
        by_bias[i] = gradient[0, i]
    for j in range(1, batch):
        for i in range(units):
            by_bias[i] += gradient[j, i]


@part
def _update_clipped(
    factor: np.float32,
    member: int,
    layers: Layers,
    rule: Rule,
    members: Members,
    scratch: Scratch,
    measured: Float[Array, "layers statistics"],
) -> None:
    """Updates all layers by the gradients that `scratch` holds, each times a factor."""
    held_weights, held_biases = 0, 0
    for layer in range(len(layers.sizes) - 1, -1, -1):
        fan_in, fan_out = layers.sizes[layer]
        by_weight = scratch.weight_gradients[held_weights : held_weights + fan_in * fan_out]
        by_bias = scratch.bias_gradients[held_biases : held_biases + fan_out]
        for i in range(len(by_weight)):
            by_weight[i] *= factor
        for i in range(fan_out):
            by_bias[i] *= factor
        _update_layer(layer, by_weight, by_bias, member, layers, rule, members, scratch, measured)
        held_weights, held_biases = held_weights + len(by_weight), held_biases + fan_out


@part
def _rectify_gradient(
    gradient: Float[Array, "batch units"], value: Float[Array, "batch units"]
) -> None:
    for j in range(gradient.shape[0]):
        for i in range(gradient.shape[1]):
            gradient[j, i] = _ZERO if value[j, i] <= _ZERO else gradient[j, i]


@part
def _update_layer(
    layer: int,
    by_weight: Float[Array, " values"],
    by_bias: Float[Array, " units"],
    member: int,
    layers: Layers,
    rule: Rule,
    members: Members,
    scratch: Scratch,
    measured: Float[Array, "layers statistics"],
) -> None:
    """Updates a layer's weights and biases.

    Args:
        layer: The layer's index.
        by_weight: The gradient with respect to its weights.
        by_bias: The gradient with respect to its biases, if it has some.
        member: The member.
        layers: The model.
        rule: The optimizer.
        members: The whole pack.
        scratch: Memory that no other thread uses meanwhile.
        measured: Takes the ratio of the update to the weights; empty if nothing is measured.
    """
    weight = at(members.params, layers.weights[layer], member, len(by_weight))
    before = scratch.weights[: len(weight)]
    if len(measured):
        for i in range(len(weight)):
            before[i] = weight[i]
    start, scale, decay = layers.weights[layer], layers.weight_scales[layer], members.decay[member]
    update(start, by_weight, scale, decay, member, rule, members)
    if len(measured):
        statistics.of_update(before, weight, measured[layer])
    if layers.biases[layer] >= 0:
        start, scale = layers.biases[layer], layers.bias_scales[layer]
        update(start, by_bias, scale, members.vector_decay[member], member, rule, members)


@part
def _transpose(values: Float[Array, "rows columns"], into: Float[Array, "columns rows"]) -> None:
    # Writing along the rows of the copy is several times as fast as reading along the others.
    for j in range(values.shape[1]):
        for i in range(values.shape[0]):
            into[j, i] = values[i, j]
