"""One forward and one backward pass: what the initial weights do to signal and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from initstudy.probes.forward import first_tensor
from initstudy.probes.layers import Layer, find_layers
from initstudy.probes.statistics import dead, rms, saturated
from initstudy.theory.predict import NotCoveredError, predict, second_moment

LossFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerSignal:
    """What one layer does at initialization.

    Attributes:
        name: The layer's.
        output: The module whose output is read: the activation function after it, or itself.
        activation_rms: Root mean square of its activation over the batch.
        gradient_rms: Of the loss's gradient by that activation; None where none was computed.
        weight_gradient_rms: Of the loss's gradient by its weights.
        dead: Fraction of units that are zero for the whole batch.
        saturated: Fraction of entries at the activation function's limits; None where it has none.
        finite: Whether activation and gradient are.
        expected_activation_rms: What mean-field theory expects; None where it does not cover the
            model.
        expected_gradient_rms: Likewise, of the gradient.
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


@dataclass(frozen=True)
class Signal:
    """The whole pass.

    Attributes:
        layers: In the order in which they run.
        loss: Mean cross-entropy of the batch, or None for a model that is no classifier.
        guessing_loss: ln(classes), the loss of a classifier that knows nothing.
        random_targets: Whether labels were drawn, since none were given.
    """

    layers: tuple[LayerSignal, ...]
    loss: float | None
    guessing_loss: float | None
    random_targets: bool


def measure_signal(
    model: nn.Module,
    inputs: tuple[Float[Tensor, "batch ..."], ...],
    targets: Tensor | None,
    loss: LossFunction | None,
) -> Signal:
    """Runs a model forward and backward once; it is left as it was.

    It runs in training mode, which is what the first step will see: normalizations use the batch's
    own statistics. Without a loss, a classifier gets the cross-entropy, of random labels where
    there are no targets; anything else a random direction of its output, which serves to compare
    the layers' gradients with one another.

    Args:
        model: Any module.
        inputs: Its positional arguments.
        targets: Labels `[batch]`.
        loss: From the model's output to a scalar.
    """
    layers = find_layers(model, tuple(inputs))
    # Frozen parameters count too: their gradients are what the audit is about.
    params = {n: p.detach().requires_grad_() for n, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = model.training
    devices = list({p.device for p in params.values() if p.device.type == "cuda"})
    try:
        model.train()
        with (
            torch.random.fork_rng(devices=devices),
            torch.enable_grad(),
            _reading(model, layers) as seen,
        ):
            torch.manual_seed(0)
            output = first_tensor(functional_call(model, params | buffers, inputs))
            value, classes, drawn = _objective(output, targets, loss)
            gradients = _gradients(value, seen, params)
    finally:
        model.train(training)
    rows = [_row(layer, seen[layer.output], gradients) for layer in layers]
    if classes and len(inputs) == 1:
        rows = _with_theory(rows, model, params, inputs[0])
    guessing = math.log(classes) if classes else None
    return Signal(tuple(rows), float(value.detach()) if classes or loss else None, guessing, drawn)


class _reading:  # noqa: N801 - a context manager
    """Keeps the first output of every layer's activation while a model runs."""

    def __init__(self, model: nn.Module, layers: list[Layer]) -> None:
        self.model, self.names = model, {layer.output for layer in layers}

    def __enter__(self) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        self.handles = [
            self.model.get_submodule(name).register_forward_hook(
                lambda _m, _a, output, name=name: _keep(seen, name, output)
            )
            for name in self.names
        ]
        return seen

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], name: str, output: Tensor) -> None:
    # Only the first call is read; it is the one whose shape the layer has.
    seen.setdefault(name, first_tensor(output))


def _objective(
    output: Tensor, targets: Tensor | None, loss: LossFunction | None
) -> tuple[Tensor, int, bool]:
    """What is differentiated, the number of classes (0 for no classifier), and if labels are drawn.

    Raises:
        ValueError: The targets do not fit the output.
    """
    if loss is not None:
        return loss(output), 0, False
    classifier = output.dim() == 2 and output.shape[1] > 1
    if targets is None and not classifier:
        direction = torch.randn(output.shape, device=output.device, dtype=output.dtype)
        return (output * direction).sum() / output.shape[0], 0, False
    if targets is None:
        labels = torch.randint(output.shape[1], (len(output),), device=output.device)
        return F.cross_entropy(output, labels), output.shape[1], True
    if not classifier or targets.shape != output.shape[:1] or targets.is_floating_point():
        raise ValueError(
            f"targets={tuple(targets.shape)}: the model returns {tuple(output.shape)}; give labels "
            "(batch,) for outputs (batch, classes), or a loss of your own"
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < output.shape[1]:
        raise ValueError(
            f"targets: labels lie between {int(targets.min())} and {int(targets.max())}, but the "
            f"model has {output.shape[1]} outputs"
        )
    return F.cross_entropy(output, targets), output.shape[1], False


def _gradients(
    value: Tensor, seen: dict[str, Tensor], params: dict[str, Tensor]
) -> dict[str, Tensor | None]:
    wanted = {f"output {k}": v for k, v in seen.items() if v.requires_grad} | params
    found = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def _row(layer: Layer, activation: Tensor, gradients: dict[str, Tensor | None]) -> LayerSignal:
    gradient = gradients.get(f"output {layer.output}")
    by_weight = [g for name in layer.weights if (g := gradients.get(name)) is not None]
    stacked = activation.detach()[None].float()
    tensors = [activation, *([gradient] if gradient is not None else []), *by_weight]
    return LayerSignal(
        layer.name,
        layer.output,
        float(rms(stacked)),
        None if gradient is None else float(rms(gradient[None].float())),
        float(rms(torch.cat([g.flatten() for g in by_weight])[None].float()))
        if by_weight
        else None,
        float(dead(stacked, layer.units)) if stacked.dim() > 2 else 0.0,
        None if layer.limits is None else float(saturated(stacked, layer.limits)),
        all(bool(torch.isfinite(t).all()) for t in tensors),
    )


def _with_theory(
    rows: list[LayerSignal], model: nn.Module, params: dict[str, Tensor], x: Tensor
) -> list[LayerSignal]:
    try:
        found = predict(model, params, second_moment(x), len(x))
    except NotCoveredError:
        return rows
    return [
        replace(
            row,
            expected_activation_rms=found.activations.get(row.name),
            expected_gradient_rms=found.gradients.get(row.name),
        )
        for row in rows
    ]


def _rms_of(tensors: list[Tensor]) -> float | None:
    """Root mean square over all entries of several tensors."""
    if not tensors:
        return None
    return float(rms(torch.cat([t.flatten() for t in tensors])[None].float()))
