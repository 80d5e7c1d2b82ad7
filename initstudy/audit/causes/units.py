"""Units that are dead, saturated, or do the same as others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from initstudy.audit.evidence import Evidence, few, rule_for
from initstudy.audit.result import Warned
from initstudy.audit.signal import LayerSignal
from initstudy.audit.tensors import is_real
from initstudy.initializers.slots import named_tensors

MOSTLY = 0.5
# Fewer repeated rows happen where a method fills a layer with few different values.
REPEATED = 0.1


def _over(evidence: Evidence, value: Callable[[LayerSignal], float | None]) -> list[LayerSignal]:
    # Only an activation function kills or saturates.
    return [s for s in evidence.signal.layers if s.activation and (value(s) or 0) > MOSTLY]


def dead(evidence: Evidence) -> Iterator[Warned]:
    """Layers most of whose units are zero for the whole batch; the first is the cause."""
    found = _over(evidence, lambda s: s.dead)
    if not found:
        return
    first, names = found[0], tuple(s.name for s in found)
    bias = evidence.bias_of(first.name)
    reason = "check its bias and the deviation of its weights"
    if bias is not None and bias.mean < 0:
        reason = f"its bias is {bias.mean:.3g} on average, for an argument of size "
        reason += f"{first.before_rms:.3g}; start it at 0"
    others = f", and so are those of {few(names[1:])} after it" if names[1:] else ""
    yield Warned(
        "dead",
        f"{first.dead:.0%} of the units of {few(names[:1])} are zero for the whole batch{others}: "
        f"{reason}",
        names,
    )


def saturated(evidence: Evidence) -> Iterator[Warned]:
    """Layers most of whose entries lie at the activation function's limits."""
    found = _over(evidence, lambda s: s.saturated)
    if not found:
        return
    first, names = found[0], tuple(s.name for s in found)
    others = f", and more than half of {few(names[1:])}" if names[1:] else ""
    yield Warned(
        "saturated",
        f"{first.saturated or 0:.0%} of {few(names[:1])} is saturated{others}: the argument of "
        f"{first.activation} has size {first.before_rms:.3g} and its gradient is nearly zero; "
        f"lower the deviation of the weights ({rule_for(first.activation)}) or normalize",
        names,
    )


def symmetric(evidence: Evidence) -> Iterator[Warned]:
    """Layers all of whose weights are the same."""
    layers = evidence.signal.layers
    last = layers[-1].name if layers else ""
    alike = tuple(
        row.name
        for row in evidence.weights()
        if row.std == 0
        and row.shape[0] > 1
        and (row.mean != 0 or len(layers) > 1)
        and row.name != f"{last}.weight"
    )
    if alike and not _is_zero_branch(evidence, alike):
        yield Warned(
            "symmetric",
            f"all weights of {few(alike)} are the same: its units compute the same and get the "
            "same gradient, so they stay alike; sample them (zero is fine only where a residual "
            "branch ends)",
            alike,
        )


def _is_zero_branch(evidence: Evidence, names: tuple[str, ...]) -> bool:
    """Whether the weights are zero and a signal goes on behind them, past them."""
    rows = {row.name: row for row in evidence.parameters}
    if any(rows[name].mean != 0 for name in names):
        return False
    layers = [name.removesuffix(".weight") for name in names]
    at = [i for i, s in enumerate(evidence.signal.layers) if s.name in layers]
    after = [s for s in evidence.signal.layers[at[0] + 1 :] if s.name not in layers] if at else []
    return any((s.input_rms or 0.0) > 0 for s in after)


@torch.no_grad()
def duplicate_units(evidence: Evidence) -> Iterator[Warned]:
    """Layers several of whose units have the same weights."""
    found: dict[str, tuple[int, int]] = {}
    bias = {row.name: row for row in evidence.parameters if row.role == "bias"}
    for slot in named_tensors(evidence.model):
        values = slot.tensor
        usable = values.dim() > 1 and is_real(values) and not values.is_meta
        weighted = any(row.name == slot.name for row in evidence.weights())
        if not usable or not weighted or values.shape[0] < 2 or values[0].numel() < 4:
            continue
        if float(values.min()) == float(values.max()):
            continue
        repeated = _repeated(values)
        drawn = bias.get(f"{slot.name.removesuffix('weight')}bias")
        if drawn is not None and drawn.std > 0:
            # Other biases tell the units apart.
            continue
        if repeated > max(1, REPEATED * len(values)) and repeated < len(values):
            found[slot.name] = repeated, len(values)
    if found:
        count, of = next(iter(found.values()))
        yield Warned(
            "duplicate-units",
            f"{count} of the {of} units of {few(tuple(found))} have the weights of another unit: "
            "they compute the same, and stay alike where what follows treats them alike; sample "
            "every unit by itself",
            tuple(found),
        )


def _repeated(values: Tensor) -> int:
    """How many rows equal an earlier row, zero rows left out."""
    rows = values.detach().flatten(1)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator).to(rows)
    # Equal rows have equal products with any vector.
    products = rows @ direction
    products = products[products != 0]
    return len(products) - len(torch.unique(products))


@torch.no_grad()
def identical_layers(evidence: Evidence) -> Iterator[Warned]:
    """Layers that hold the same values, as copies of one module do."""
    seen: dict[tuple[object, ...], list[tuple[str, Tensor]]] = {}
    for slot in named_tensors(evidence.model):
        values = slot.tensor
        if values.dim() < 2 or not is_real(values) or values.is_meta or values.numel() < 4:
            continue
        flat = values.detach().reshape(-1)
        few_values = tuple(flat[:: max(1, flat.numel() // 8)][:8].tolist())
        if len(set(few_values)) == 1:
            continue
        key = (tuple(values.shape), few_values)
        seen.setdefault(key, []).append((slot.name, values))
    groups = [
        [name for name, value in several if torch.equal(value, several[0][1])]
        for several in seen.values()
        if len(several) > 1
    ]
    groups = [group for group in groups if len(group) > 1]
    if groups:
        names = tuple(name for group in groups for name in group)
        yield Warned(
            "identical-layers",
            f"{few(groups[0])} hold the same values"
            f"{f', and so do {len(groups) - 1} more sets of weights' if groups[1:] else ''}: a "
            "module was copied (as nn.TransformerEncoder copies its layer) or filled with the same "
            "seed; fill every layer by itself",
            names,
        )
