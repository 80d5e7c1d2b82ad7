"""Warnings that a practitioner can act on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from initstudy.audit.result import ParameterRow, Warned
from initstudy.audit.signal import LayerSignal, Signal
from initstudy.initializers import WEIGHTED

# A signal that changes by this much through a network is on its way to vanish or explode.
TOTAL_CHANGE = 10.0
FEWEST_LAYERS = 4
# Where training is lost: activations this much larger or smaller than at the first layer.
LOST = 1e4
MOSTLY = 0.5
# Of the guessing loss; a He-initialized head, with logits of variance two, stays below.
LOSS_RATIO = 2.0
WIDE_EMBEDDING = 0.5
REFUTED = 1e-6


def advise(
    model: nn.Module, parameters: Sequence[ParameterRow], signal: Signal, *, intended: bool
) -> list[Warned]:
    """Everything worth a warning, most urgent first.

    Args:
        model: The audited model.
        parameters: Its rows.
        signal: Its pass.
        intended: Whether the rows were tested against a policy.
    """
    found: list[Warned] = []
    found += _not_finite(signal)
    found += _no_gradient(parameters, signal)
    found += _growth(signal)
    found += _loss(signal)
    found += _units(signal)
    found += _alike(parameters, signal)
    if intended:
        found += _not_filled(parameters)
    found += _wrong_fans(parameters)
    found += _embeddings(parameters)
    found += _forget_gates(model)
    found += _resolution(model)
    return found


def _not_finite(signal: Signal) -> Iterator[Warned]:
    bad = [layer.name for layer in signal.layers if not layer.finite]
    if bad:
        yield Warned(
            "not-finite", f"NaN or infinity from {bad[0]} on: nothing can be trained", tuple(bad)
        )


def _no_gradient(parameters: Sequence[ParameterRow], signal: Signal) -> Iterator[Warned]:
    without = [s.name for s in signal.layers if s.gradient_rms == 0 or s.weight_gradient_rms == 0]
    zero = [
        row.name
        for row in parameters
        if row.distribution in ("zeros", "Constant(value=0.0)")
        and row.kind in WEIGHTED
        and row.role != "bias"
    ]
    if without:
        cause = f", since {_few(zero)} is zero" if zero else ""
        yield Warned(
            "no-gradient",
            f"no gradient reaches {_few(without)} in the first step{cause}; that is usual for a "
            "zero head or a zero residual branch, and a mistake elsewhere",
            tuple(without),
        )


def _growth(signal: Signal) -> Iterator[Warned]:
    layers = [s for s in signal.layers if 0 < s.activation_rms < math.inf]
    forward = _factor([s.activation_rms for s in layers])
    if forward is not None:
        yield Warned("signal", _sentence("signal", "layer", forward), (layers[0].name,))
    behind = [s for s in signal.layers if s.gradient_rms and math.isfinite(s.gradient_rms)]
    backward = _factor([s.gradient_rms for s in reversed(behind)])
    if backward is not None:
        yield Warned(
            "gradient", _sentence("gradient", "layer on its way back", backward), (behind[0].name,)
        )


def _factor(values: Sequence[float | None]) -> float | None:
    """Change a layer, by least squares in log, where it adds up to much; None otherwise."""
    if len(values) < FEWEST_LAYERS:
        return None
    logs = [math.log(v) for v in values if v]
    middle = (len(logs) - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(len(logs)))
    slope = sum((i - middle) * value for i, value in enumerate(logs)) / spread
    # The line must explain what happens: a jump at one layer is no growth.
    mean = sum(logs) / len(logs)
    explained = slope**2 * spread
    total = sum((value - mean) ** 2 for value in logs)
    if total == 0 or explained / total < 0.5:
        return None
    return math.exp(slope) if abs(slope) * (len(logs) - 1) > math.log(TOTAL_CHANGE) else None


def _sentence(what: str, unit: str, factor: float) -> str:
    layers = math.ceil(math.log(LOST) / abs(math.log(factor)))
    if factor > 1:
        return (
            f"{what} grows ×{factor:.2g} a {unit}: ten thousandfold after {layers} layers; "
            "lower the weights' deviation, or normalize"
        )
    return (
        f"{what} shrinks ×{factor:.2g} a {unit}: a ten thousandth after {layers} layers; "
        "raise the weights' deviation (He for ReLU, Xavier with gain 5/3 for tanh), or normalize"
    )


def _loss(signal: Signal) -> Iterator[Warned]:
    loss, guess = signal.loss, signal.guessing_loss
    if loss is not None and guess is not None and loss > LOSS_RATIO * guess:
        yield Warned(
            "loss",
            f"the loss starts at {loss:.3g}, where guessing gives {guess:.3g}: the logits are "
            "large before anything is learned; scale the last layer down",
            (signal.layers[-1].name,) if signal.layers else (),
        )


def _units(signal: Signal) -> Iterator[Warned]:
    def over(value: Callable[[LayerSignal], float | None]) -> tuple[str, ...]:
        # Only an activation function kills or saturates.
        after = [s for s in signal.layers if s.output != s.name]
        return tuple(s.name for s in after if (value(s) or 0) > MOSTLY)

    dead, saturated = over(lambda s: s.dead), over(lambda s: s.saturated)
    if dead:
        yield Warned(
            "dead",
            f"more than half the units of {_few(dead)} are zero for the whole "
            "batch; check biases and deviations before it",
            dead,
        )
    if saturated:
        yield Warned(
            "saturated",
            f"more than half of {_few(saturated)} is saturated: its gradient "
            "is nearly zero; lower the deviation of its weights",
            saturated,
        )


def _alike(parameters: Sequence[ParameterRow], signal: Signal) -> Iterator[Warned]:
    last = signal.layers[-1].name if signal.layers else ""
    alike = tuple(
        row.name
        for row in parameters
        if row.kind in WEIGHTED
        and row.role in ("weight", "recurrent")
        and len(row.shape) > 1
        and row.std == 0
        and row.shape[0] > 1
        and (row.mean != 0 or len(signal.layers) > 1)
        and row.name != f"{last}.weight"
    )
    if alike:
        yield Warned(
            "symmetric",
            f"all weights of {_few(alike)} are the same: its units compute the same and get the "
            "same gradient, so they stay alike; draw them at random (zero is fine only where a "
            "residual branch ends)",
            alike,
        )


def _not_filled(parameters: Sequence[ParameterRow]) -> Iterator[Warned]:
    never = tuple(r.name for r in parameters if r.pvalue is not None and r.pvalue < REFUTED)
    if never:
        yield Warned(
            "not-initialized",
            f"{_few(never)} does not hold what the policy draws: it was never initialized by it, "
            "or changed since",
            never,
        )


def _wrong_fans(parameters: Sequence[ParameterRow]) -> Iterator[Warned]:
    causes = {
        "attention": "packed QKV is scaled as one map of three times the outputs: fill the three "
        "projections one by one",
        "conv_transpose": "a transposed convolution's fans are swapped: torch.nn.init reads its "
        "weight as (out, in)",
        "conv": "a grouped convolution's fan_out counts every group: torch.nn.init does not divide "
        "by them",
        "embedding": "an embedding looks up one row: its number of rows is no fan",
    }
    for kind, cause in causes.items():
        rows = [r for r in parameters if r.kind == kind and r.convention == "torch"]
        if rows:
            names = tuple(r.name for r in rows)
            yield Warned("wrong-fan", f"{cause} ({_few(names)})", names)


def _embeddings(parameters: Sequence[ParameterRow]) -> Iterator[Warned]:
    wide = tuple(r.name for r in parameters if r.kind == "embedding" and r.std > WIDE_EMBEDDING)
    if wide:
        yield Warned(
            "embedding",
            f"{_few(wide)} starts at std 1, torch's default: large beside what attention and "
            "linear layers add, and logits explode where it is tied to the head; GPT-2 and BERT "
            "use 0.02",
            wide,
        )


def _forget_gates(model: nn.Module) -> Iterator[Warned]:
    closed = []
    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM | nn.LSTMCell) and getattr(module, "bias", False):
            pairs = [k for k, _ in module.named_parameters(recurse=False) if "bias_ih" in k]
            for key in pairs:
                both = getattr(module, key) + getattr(module, key.replace("_ih", "_hh"))
                if float(both.detach().chunk(4)[1].mean()) < MOSTLY:
                    closed.append(f"{name}.{key}".removeprefix("."))
    if closed:
        yield Warned(
            "forget-gate",
            f"the forget gates of {_few(closed)} start half closed: half of the cell is lost every "
            "step; set their bias to 1 (init=unit_forget_gate)",
            tuple(closed),
        )


@torch.no_grad()
def _resolution(model: nn.Module) -> Iterator[Warned]:
    below = []
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or parameter.numel() < 2:
            continue
        limits = torch.finfo(parameter.dtype)
        values = parameter.double()
        std, mean = float(values.std(correction=0)), abs(float(values.mean()))
        if 0 < std < limits.tiny or 0 < std < limits.eps * mean:
            below.append(name)
    if below:
        yield Warned(
            "resolution",
            f"the deviation of {_few(below)} is below what its float type resolves: its values are "
            "rounded to a few numbers, or to zero",
            tuple(below),
        )


def _few(names: Sequence[str]) -> str:
    """Names in a sentence: two of them, and how many more."""
    shown = ", ".join(names[:2])
    return shown if len(names) <= 2 else f"{shown} and {len(names) - 2} more"
