"""One forward and one backward pass: what the initial weights do to signal and gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from initstudy.audit.call import Call
from initstudy.audit.inputs import InputFacts, input_facts
from initstudy.audit.scalar import LossFunction, Scalar, scalar_of
from initstudy.audit.tape import LossCall, Reading, Tape
from initstudy.audit.tensors import is_real, rms
from initstudy.audit.time import TimeFactor, time_factors
from initstudy.probes.forward import as_written
from initstudy.probes.statistics import dead, saturated
from initstudy.theory.predict import NotCoveredError, predict, second_moment

# A unit that is zero for this many entries is not so by chance.
FEWEST_ENTRIES = 16
# Further random states in which a layer that got no gradient, or a dead one, is looked at again: a
# branch may have been dropped.
TRIALS = 4


@dataclass(frozen=True)
class LayerSignal:
    """What one layer does at initialization.

    Attributes:
        name: The layer's name; that of the parameter, for a product outside of a layer.
        output: The module or function whose result is read: the activation function after the
            layer, or the layer itself.
        activation_rms: The root mean square of its activation over the batch.
        gradient_rms: That of the loss's gradient with respect to that activation; None where none
            reaches it.
        weight_gradient_rms: That of the gradient with respect to its weights; None where none
            reaches them.
        dead: The fraction of units that are zero for the whole batch.
        saturated: The fraction of entries at the activation function's limits; None where it has
            none.
        finite: Whether activation and gradients are.
        expected_activation_rms: What mean-field theory expects; None where it does not cover the
            model.
        expected_gradient_rms: Likewise, of the gradient.
        activation: The name of the activation function, or None where none follows.
        input_rms: The root mean square of what it reads; None where it reads indices.
        output_rms: That of what it returns, before normalization and activation function.
        before_rms: That of the activation function's argument.
        normalized: Whether a normalization follows before any activation function.
        input_normalized: Whether what it reads has been normalized.
        reads_input: Whether it reads the model's inputs, through no other layer.
        calls: How many times it ran.
    """

    name: str
    output: str
    activation_rms: float
    gradient_rms: float | None
    weight_gradient_rms: float | None
    dead: float
    saturated: float | None
    finite: bool
    expected_activation_rms: float | None = None
    expected_gradient_rms: float | None = None
    activation: str | None = None
    input_rms: float | None = None
    output_rms: float = 0.0
    before_rms: float = 0.0
    normalized: bool = False
    input_normalized: bool = False
    reads_input: bool = False
    calls: int = 1


@dataclass(frozen=True)
class Signal:
    """The forward and the backward pass.

    Attributes:
        layers: The layers in the order in which they run.
        loss: The mean loss of the batch, or None for a model that is no classifier, without a loss.
        guessing_loss: The loss of a model that ignores its inputs: ln(classes), or the variance of
            real targets; None where it is not known.
        random_targets: Whether labels were sampled, since none were given.
        probabilities: Whether a classifier's outputs are probabilities that sum to one.
        unused: The parameters that nothing reads.
        unreached: The parameters that are read and that the loss does not depend on.
        frozen: The parameters that do not require a gradient.
        losses: The loss functions of torch that ran.
        inputs: The sizes of the inputs.
        time: The growth of gradients along the steps of recurrent layers.
    """

    layers: tuple[LayerSignal, ...] = ()
    loss: float | None = None
    guessing_loss: float | None = None
    random_targets: bool = False
    probabilities: bool = False
    unused: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    losses: tuple[LossCall, ...] = ()
    inputs: InputFacts | None = None
    time: tuple[TimeFactor, ...] = ()


def measure_signal(model: nn.Module, call: Call, targets: Any, loss: LossFunction | None) -> Signal:
    """Runs a model forward and backward once; it is left as it was.

    It runs in training mode, which is what the first step will see: normalizations use the batch's
    own statistics. Without a loss, a classifier or language model gets the cross-entropy, of random
    labels where there are no targets; anything else a random direction of its output, which serves
    to compare the layers' gradients with one another. A layer that gets no gradient, or that is
    dead, is looked at in further random states, as a branch may have been dropped.

    Args:
        model: Any module.
        call: Its arguments.
        targets: Labels, tokens or real numbers, or None.
        loss: A function from the model's output, or from output and targets, to a scalar.
    """
    frozen = tuple(n for n, p in model.named_parameters() if not p.requires_grad)
    with _restored(model):
        signal = _pass(model, call, targets, loss, seed=0)
        if _is_random(model):
            for seed in range(1, TRIALS):
                if not any(_suspicious(layer) for layer in signal.layers):
                    break
                signal = _better(signal, _pass(model, call, targets, loss, seed))
        if signal.guessing_loss is not None and len(call.tensors()) == 1:
            layers = _with_theory(signal.layers, model, call.tensors()[0])
            signal = replace(signal, layers=layers)
    return replace(signal, frozen=frozen)


def _pass(
    model: nn.Module, call: Call, targets: Any, loss: LossFunction | None, seed: int
) -> Signal:
    torch.manual_seed(seed)
    tape = Tape(model, call.tensors())
    with torch.enable_grad(), as_written(), parametrize.cached():
        with tape:
            returned = call.run(model)
            scalar = scalar_of(returned, call.tensors(), targets, loss)
        gradients = _Gradients(scalar, tape, model)
        layers = tuple(_layer(reading, gradients) for reading in tape.readings)
        time = tuple(time_factors(tape.readings, gradients.of))
    read = {name for reading in tape.readings for name in reading.weights} | tape.read
    without = [n for n, p in model.named_parameters() if is_real(p) and gradients.of(p) is None]
    owners = {name: name.rpartition(".")[0] for name in without}
    used = {n for n in without if n in read or (owners[n] in tape.called and owners[n])}
    rows = scalar.output.detach()
    return Signal(
        layers,
        float(scalar.value.detach()) if scalar.loss else None,
        scalar.guessing,
        scalar.drawn,
        bool(scalar.classes) and _are_probabilities(rows),
        tuple(n for n in without if n not in used),
        tuple(n for n in without if n in used),
        (),
        tuple(tape.losses),
        input_facts(call.tensors(), tape.readings),
        time,
    )


def _are_probabilities(rows: Tensor) -> bool:
    if rows.dim() != 2 or rows.shape[1] < 2 or not bool((rows >= 0).all()):
        return False
    return torch.allclose(rows.double().sum(1), torch.ones(len(rows)).double(), atol=1e-4)


class _Gradients:
    """The gradients of a scalar with respect to activations, weights and parameters."""

    def __init__(self, scalar: Scalar, tape: Tape, model: nn.Module) -> None:
        wanted: dict[int, Tensor] = {}
        for reading in tape.readings:
            several = reading.outputs if reading.calls > 1 else []
            for tensor in (reading.after, *reading.weights.values(), *several):
                if tensor is not None and tensor.requires_grad:
                    wanted[id(tensor)] = tensor
        for parameter in model.parameters():
            if is_real(parameter):
                wanted[id(parameter)] = parameter
        self.found: dict[int, Tensor | None] = {}
        if scalar.value.requires_grad:
            tensors = list(wanted.values())
            values = torch.autograd.grad(scalar.value, tensors, allow_unused=True)
            self.found = dict(zip(wanted, values, strict=True))

    def of(self, tensor: Tensor) -> Tensor | None:
        """The gradient with respect to a tensor of the pass, or None where none reaches it."""
        return self.found.get(id(tensor))


def _layer(reading: Reading, gradients: _Gradients) -> LayerSignal:
    after = reading.after
    assert after is not None
    values = after.detach()
    gradient = gradients.of(after)
    by_weight = [g for t in reading.weights.values() if (g := gradients.of(t)) is not None]
    size = rms(values)
    sizes = [rms(g) for g in by_weight]
    counts = [g.numel() for g in by_weight]
    joint = math.sqrt(
        sum(n * s**2 for n, s in zip(counts, sizes, strict=True)) / max(sum(counts), 1)
    )
    back = None if gradient is None else rms(gradient)
    known = [size, joint, *([] if back is None else [back])]
    return LayerSignal(
        reading.name,
        reading.output,
        size,
        back,
        joint if by_weight else None,
        _dead(values, reading.units),
        _saturated(values, reading.limits),
        all(math.isfinite(value) for value in known),
        activation=reading.activation,
        input_rms=reading.input_rms,
        output_rms=reading.output_rms,
        before_rms=reading.before_rms,
        normalized=reading.normalized,
        input_normalized=reading.input_normalized,
        reads_input=reading.reads_input,
        calls=reading.calls,
    )


def _dead(values: Tensor, units: int) -> float:
    if values.dim() < 2 or values.dim() < -units:
        return 0.0
    entries = values.numel() // max(values.shape[units], 1)
    return float(dead(values[None].float(), units)) if entries >= FEWEST_ENTRIES else 0.0


def _saturated(values: Tensor, limits: tuple[float, float] | None) -> float | None:
    if limits is None or not values.numel():
        return None
    if limits[0] == -math.inf:
        # ReLU6: a function with an upper limit alone.
        return float((values >= 0.99 * limits[1]).float().mean())
    return float(saturated(values[None].float(), limits))


def _suspicious(layer: LayerSignal) -> bool:
    return not layer.gradient_rms or not layer.weight_gradient_rms or layer.dead > 0


def _is_random(model: nn.Module) -> bool:
    """Whether a model may drop something, so that another random state shows more of it."""
    words = ("drop", "depth", "noise")
    return any(any(w in type(m).__name__.lower() for w in words) for m in model.modules())


def _better(one: Signal, other: Signal) -> Signal:
    """The first pass, with what only another one reached."""
    names = {layer.name: layer for layer in other.layers}
    layers = []
    for layer in one.layers:
        again = names.get(layer.name, layer)
        changes: dict[str, Any] = {"dead": min(layer.dead, again.dead)}
        if not layer.gradient_rms:
            changes["gradient_rms"] = again.gradient_rms
        if not layer.weight_gradient_rms:
            changes["weight_gradient_rms"] = again.weight_gradient_rms
        layers.append(replace(layer, **changes))
    known = {layer.name for layer in layers}
    layers += [layer for layer in other.layers if layer.name not in known]
    unreached = tuple(n for n in one.unreached if n in other.unreached)
    unused = tuple(n for n in one.unused if n in other.unused)
    return replace(one, layers=tuple(layers), unreached=unreached, unused=unused)


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Training mode and gradients of all parameters, until it closes and puts back what was."""
    modes = {module: module.training for module in model.modules()}
    wanted = {p: p.requires_grad for p in model.parameters()}
    buffers = [
        (module, key, buffer, buffer.clone())
        for module in model.modules()
        for key, buffer in module.named_buffers(recurse=False)
    ]
    devices = list({p.device for p in wanted if p.device.type == "cuda"})
    try:
        model.train()
        for parameter in wanted:
            # Frozen parameters count too: their gradients are what the audit is about.
            if is_real(parameter) and parameter.is_leaf:
                parameter.requires_grad_()
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, before in wanted.items():
            if parameter.is_leaf:
                parameter.requires_grad_(before)
        with torch.no_grad():
            for module, key, buffer, values in buffers:
                module._buffers[key] = buffer
                buffer.copy_(values)


def _with_theory(
    layers: tuple[LayerSignal, ...], model: nn.Module, x: Tensor
) -> tuple[LayerSignal, ...]:
    """The layers with what theory expects of them, where it covers the model."""
    values = dict(model.named_parameters())
    if not is_real(x) or any(v.numel() > 2**24 for v in values.values()):
        return layers
    try:
        found = predict(model, values, second_moment(x), len(x))
    except NotCoveredError:
        return layers
    return tuple(
        replace(
            layer,
            expected_activation_rms=found.activations.get(layer.name),
            expected_gradient_rms=found.gradients.get(layer.name),
        )
        for layer in layers
    )
