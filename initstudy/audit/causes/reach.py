"""Layers that the loss does not reach, that are frozen, or that run several times."""

from __future__ import annotations

from collections.abc import Iterator

from initstudy.audit.evidence import Evidence, few
from initstudy.audit.result import Warned
from initstudy.initializers import WEIGHTED


def frozen(evidence: Evidence) -> Iterator[Warned]:
    """Parameters that do not require a gradient: all, which is a fault, or some."""
    names = evidence.signal.frozen
    every = [name for name, _ in evidence.model.named_parameters()]
    if names and len(names) == len(every):
        yield Warned(
            "frozen",
            "no parameter requires a gradient, so that nothing can be trained: call "
            "model.requires_grad_(True)",
            names,
        )
    elif names:
        text = f"{few(names)} do not require a gradient: they stay as they are"
        yield Warned("frozen", text, names, note=True)


def detached(evidence: Evidence) -> Iterator[Warned]:
    """Parameters that are used, and that the loss does not depend on."""
    names = evidence.signal.unreached
    if not names:
        return
    layers = evidence.signal.layers
    without = tuple(s.name for s in layers if s.gradient_rms is None) or names
    reached = [i for i, s in enumerate(layers) if s.gradient_rms is not None]
    cut = [i for i in range(len(layers) - 1) if i + 1 in reached and i not in reached]
    place = f" between {layers[cut[-1]].name} and {layers[cut[-1] + 1].name}" if cut else ""
    yield Warned(
        "detached",
        f"the loss does not depend on {few(without)}, though the model uses them: the graph is "
        f"cut{place}, as detach(), no_grad(), .data, numpy or argmax do",
        without,
    )


def unused(evidence: Evidence) -> Iterator[Warned]:
    """Parameters that nothing in the forward pass reads."""
    names = evidence.signal.unused
    if names and evidence.signal.layers:
        layers = tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
        yield Warned(
            "unused",
            f"the forward pass does not use {few(layers)}: its parameters never change; call it, "
            "or remove it",
            layers,
        )


def no_gradient(evidence: Evidence) -> Iterator[Warned]:
    """Layers whose gradient is exactly zero."""
    without = [
        s.name for s in evidence.signal.layers if s.gradient_rms == 0 or s.weight_gradient_rms == 0
    ]
    zero = [
        row.name
        for row in evidence.parameters
        if row.distribution in ("zeros", "Constant(value=0.0)")
        and row.kind in WEIGHTED
        and row.role != "bias"
    ]
    if not without:
        return
    cause = f", since {few(zero)} is zero" if zero else ""
    yield Warned(
        "no-gradient",
        f"no gradient reaches {few(without)} in the first step{cause}; that is usual for a "
        "zero head or a zero residual branch, and a mistake elsewhere",
        tuple(without),
        note=zero == _last_weight(evidence),
    )


def _last_weight(evidence: Evidence) -> list[str]:
    """The name of the last layer's weight: a head of zeros learns in the first step."""
    return [f"{layer.name}.weight".removeprefix(".") for layer in evidence.signal.layers[-1:]]


def used_twice(evidence: Evidence) -> Iterator[Warned]:
    """Layers that run several times in one pass, with the same weights."""
    times = {s.name: s.calls for s in evidence.signal.layers if s.calls > 1}
    if times:
        name, count = next(iter(times.items()))
        several = "" if len(times) == 1 else f" and {len(times) - 1} more layers several times"
        text = (
            f"{name or 'the layer'} runs {count} times in one pass{several}: it adds up gradients"
        )
        yield Warned("used-twice", text, tuple(times), note=True)
